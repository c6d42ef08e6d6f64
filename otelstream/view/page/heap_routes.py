"""The flame graph and the file of a profile, each at a URL of the page's server and so under its access rules."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Annotated, TypeAlias
from urllib.parse import urlencode

from fastapi import Depends, FastAPI, HTTPException, Query
from fastapi.responses import HTMLResponse, Response

from otelstream.profile import flame, pprof
from otelstream.profile.model import Profile
from otelstream.view.snapshots import Selection
from otelstream.view.store.reader import Reader

_FLAME, _FILE = "/memory/flame", "/memory/profile"
_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
"""For a page that shows names which anybody may have chosen: should one of them ever be run, it has an origin of its
own, so that it can't ask the viewer for anything, and it reaches no other host."""
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}

WAIT_S = 10.0
"""For those who came before."""
_busy = threading.Lock()
"""A flame graph of a million frames takes 7 s and 700 MB, however small it is at the end."""

_Id: TypeAlias = Annotated[int, Query(ge=1, lt=2**63)]


def flame_url(selection: Selection) -> str:
    """Where its flame graph is."""
    return f"{_FLAME}?{_query(selection)}"


def file_url(selection: Selection) -> str:
    """Where it can be downloaded, as a file for ``go tool pprof``."""
    return f"{_FILE}?{_query(selection)}"


def _query(selection: Selection) -> str:
    fields = {name: getattr(selection, name) for name in Selection.__dataclass_fields__}
    return urlencode({name: value for name, value in fields.items() if value is not None})


def _selection(
    snapshot: _Id,
    base: _Id | None = None,
    method: str | None = None,
    side: str | None = None,
    stream: _Id | None = None,
) -> Selection:
    return Selection(snapshot, base, method, side, stream)


_Selected: TypeAlias = Annotated[Selection, Depends(_selection)]


def add(app: FastAPI, reader: Reader) -> None:
    """Answer at these URLs."""

    @app.get(_FLAME)
    def flame_graph(selection: _Selected) -> HTMLResponse:
        with _one_at_a_time():
            page = flame.page(_profile(reader, selection), "Flame graph")
        return HTMLResponse(page, headers={**_HEADERS, "Content-Security-Policy": _POLICY})

    @app.get(_FILE)
    def file(selection: _Selected) -> Response:
        disposition = {"Content-Disposition": 'attachment; filename="heap.pb.gz"'}
        with _one_at_a_time():
            data = pprof.encode(_profile(reader, selection))
        return Response(data, headers={**_HEADERS, **disposition}, media_type=pprof.CONTENT_TYPE)


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    if not _busy.acquire(timeout=WAIT_S):
        raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, "other profiles are being drawn: load this one again")
    try:
        yield
    finally:
        _busy.release()


def _profile(reader: Reader, selection: Selection) -> Profile:
    try:
        found = reader.profile(selection)
    except ValueError as error:
        raise HTTPException(HTTPStatus.BAD_REQUEST, f"{error}: choose two of one kind") from None
    if found is None:
        why = "this profile has left the capture, whose --max-size keeps the newest: choose a later time"
        raise HTTPException(HTTPStatus.NOT_FOUND, why)
    return found

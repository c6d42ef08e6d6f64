"""A snapshot from a viewer: its ``/api/live``, whose rows are those of ``otelstream.view.model``."""

from __future__ import annotations

from collections.abc import Callable

from otelstream.top.snapshot import Fields, MethodRow, ProcessRow, Snapshot, StreamRow, read


class Viewer:
    """Knows the rates itself, and the verdict: one question per snapshot."""

    looks_needed = 1

    def __init__(self, get: Callable[[str], bytes], sort: str, limit: int) -> None:
        """``get`` answers the body at a path; wanted are the ``limit`` streams with most of ``sort``, their field."""
        self._get = get
        self._path = f"/api/live?sort={sort}&limit={limit}"

    def look(self) -> Snapshot:
        """Ask. Raises ``Malformed``, and what ``get`` raises."""
        return _snapshot(read(self._get(self._path)))


def _snapshot(data: Fields) -> Snapshot:
    verdict = data.object("verdict")
    return Snapshot(
        verdict=verdict.text("sentence"),
        level=verdict.text("level"),
        processes=[
            ProcessRow(
                label=each.text("label"),
                resident=each.maybe("resident"),
                resident_per_minute=each.maybe("resident_per_minute"),
                is_silent=each.flag("is_silent"),
            )
            for each in data.objects("processes")
        ],
        methods=[
            MethodRow(
                method=each.text("method"),
                side=each.text("side"),
                open=int(each.number("open")),
                oldest=each.maybe("oldest"),
                idle=each.maybe("idle"),
                messages_per_s=each.maybe("messages_per_s"),
                bytes_per_s=each.maybe("bytes_per_s"),
                retained=each.maybe("retained"),
                retained_size=each.maybe("retained_size"),
            )
            for each in data.objects("methods")
        ],
        streams=[
            StreamRow(
                service=each.text("service"),
                method=each.text("method"),
                side=each.text("side"),
                peer=each.text("peer"),
                state=each.text("state"),
                age=each.number("age"),
                idle=each.maybe("idle"),
                messages=int(each.number("sent") + each.number("received")),
                messages_per_s=each.maybe("messages_per_s"),
                bytes_per_s=each.maybe("bytes_per_s"),
                retained=each.maybe("retained"),
            )
            for each in data.objects("streams")
        ],
        streams_total=int(data.number("streams_total")),
    )

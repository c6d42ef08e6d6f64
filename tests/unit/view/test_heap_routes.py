"""The URLs of profiles: what they are made of, and that one is drawn at a time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from otelstream.view.page import heap_routes
from otelstream.view.snapshots import Selection
from otelstream.view.store.reader import Reader
from tests.heap_feed import MIB, heap, held
from tests.unit.view.capture import capture_at
from tests.unit.view.messages import SECOND, START


def test_a_url_has_only_what_is_set_and_no_character_that_means_something() -> None:
    assert heap_routes.flame_url(Selection(3)) == "/memory/flame?snapshot=3"
    evil = Selection(3, base=1, method='a.B/C"><script>&side=x', stream=7)
    assert heap_routes.file_url(evil) == (
        "/memory/profile?snapshot=3&base=1&method=a.B%2FC%22%3E%3Cscript%3E%26side%3Dx&stream=7"
    )


def test_one_is_drawn_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap_routes, "WAIT_S", 0.01)
    app = FastAPI()

    async def statuses(*urls: str) -> list[int]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            return [(await client.get(url)).status_code for url in urls]

    flame, file, gone = heap_routes.flame_url(Selection(1)), heap_routes.file_url(Selection(1)), Selection(9)
    with capture_at(tmp_path / "capture.db") as capture:
        capture.send_profile(heap(START // SECOND, held("keep", MIB)))
        reader = Reader(capture.path)
        heap_routes.add(app, reader)
        with heap_routes._busy:
            assert asyncio.run(statuses(flame, file)) == [503, 503]
        assert asyncio.run(statuses(flame, file, heap_routes.flame_url(gone), flame)) == [200, 200, 404, 200]
        reader.close()

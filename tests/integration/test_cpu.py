"""The time profile of real servers: shares by method, the line, and that it ends with the process."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from otelstream.cpu.attribution import OfCalls
from otelstream.cpu.sampler import profile
from otelstream.profile.model import Profile, Sample, only
from otelstream.runtime import _shared
from otelstream.testing import Service, Telemetry, serving
from tests.cpu import by

BURN, WAIT = "test.Cpu/Burn", "test.Cpu/Wait"
SECONDS = 0.4


def line_of(mark: str) -> int:
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    return next(number for number, text in enumerate(lines, 1) if text.endswith(f"# <- {mark}"))


def taken() -> Profile:
    runtimes = list(_shared.values())
    attribution = OfCalls([each._handlers for each in runtimes], [each._outliving for each in runtimes])
    return profile(SECONDS, attribution)


def burn(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(100))


def lines_of(found: Profile, method: str, value: str) -> dict[str, int]:
    """By function of this file, the line at which the server has the most of ``value`` for ``method``."""
    index = [kind.type for kind in found.types].index(value)
    of_server = only(only(found, "rpc_method", method), "rpc_side", "server").samples
    most = max(of_server, key=lambda sample: sample.values[index])
    return {frame.function.rpartition(".")[2]: frame.line for frame in most.stack if frame.file == __file__}


def test_threads_of_a_sync_server(instrumented: Telemetry) -> None:
    burning, stop = threading.Event(), threading.Event()

    def burn_on(request: bytes, _context: Any) -> Iterator[bytes]:
        burning.set()
        while not stop.is_set():
            burn(0.01)  # <- sync burns
        yield request

    def wait(request: bytes, _context: Any) -> Iterator[bytes]:
        yield request
        stop.wait(20)  # <- sync waits

    service = Service("test.Cpu", Burn=("unary_stream", burn_on), Wait=("unary_stream", wait))
    with serving(service) as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        calls = [channel.unary_stream(f"/{WAIT}")(b"") for _ in range(3)]
        for call in calls:
            next(call)
        calls.append(channel.unary_stream(f"/{BURN}")(b""))
        assert burning.wait(20)
        found = taken()
        stop.set()
        for call in calls:
            list(call)

    cpu, wall = by(found, "cpu", "rpc_method"), by(found, "wall", "rpc_method")
    assert cpu[BURN] > 0.9 * found.total()
    assert cpu.get(WAIT, 0) < 0.05 * found.total()
    assert wall[WAIT] == 3 * found.duration_ns
    assert wall[BURN] == found.duration_ns
    assert lines_of(found, BURN, "cpu")["burn_on"] == line_of("sync burns")
    assert lines_of(found, WAIT, "wall")["wait"] == line_of("sync waits")
    names = {name for sample in found.samples for key, name in sample.labels if key == "thread"}
    assert any(name.startswith("ThreadPoolExecutor") for name in names)
    assert not any(name.startswith("otelstream-") for name in names)


def test_tasks_of_an_asyncio_server(instrumented: Telemetry) -> None:
    stop = threading.Event()

    async def burn_on(request: bytes, _context: Any) -> AsyncIterator[bytes]:
        yield request
        while not stop.is_set():
            burn(0.03)  # <- asyncio burns
            await asyncio.sleep(0)

    async def wait(request: bytes, _context: Any) -> AsyncIterator[bytes]:
        yield request
        await asyncio.Event().wait()  # <- asyncio waits

    async def main() -> Profile:
        service = Service("test.Cpu", Burn=("unary_stream", burn_on), Wait=("unary_stream", wait))
        server = grpc.aio.server(handlers=[service])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            calls = [channel.unary_stream(f"/{WAIT}")(b"") for _ in range(8)]
            for call in calls:
                await call.read()
            calls.append(channel.unary_stream(f"/{BURN}")(b""))
            await calls[-1].read()
            found = await asyncio.get_running_loop().run_in_executor(None, taken)
            stop.set()
            for call in calls:
                call.cancel()
        await server.stop(None)
        return found

    found = asyncio.run(main())
    cpu = by(found, "cpu", "rpc_method")
    assert cpu[BURN] > 0.8 * found.total()
    assert cpu.get(WAIT, 0) < 0.05 * found.total()
    assert lines_of(found, BURN, "cpu")["burn_on"] == line_of("asyncio burns")
    assert lines_of(found, WAIT, "wall").get("wait") == line_of("asyncio waits")
    waiting = [sample.values[1] for sample in only(found, "rpc_method", WAIT).samples if waits_here(sample)]
    assert sum(waiting) == pytest.approx(8 * found.duration_ns)


def waits_here(sample: Sample) -> bool:
    return any(frame.line == line_of("asyncio waits") for frame in sample.stack)


def run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout


def test_it_ends_with_the_program() -> None:
    """On a thread that the program waits for."""
    printed = run(
        """
        import threading
        from otelstream.cpu.attribution import OfCalls
        from otelstream.cpu.sampler import profile

        def work():
            found = profile(3600, OfCalls([], []))
            print("ended after", len(found.samples) > 0, found.duration_ns < 60e9)

        threading.Thread(target=work).start()
        """
    )
    assert printed.startswith("ended after")
    assert printed.endswith("True\n")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_has_none_and_can_take_its_own() -> None:
    printed = run(
        """
        import os, sys, threading
        from otelstream.cpu.attribution import OfCalls
        from otelstream.cpu.sampler import profile

        looked, stop = threading.Event(), threading.Event()

        class Looked(OfCalls):
            def of_threads(self):
                looked.set()
                return super().of_threads()

        thread = threading.Thread(target=profile, args=(3600, Looked([], []), stop))
        thread.start()
        looked.wait(20)
        if os.fork() == 0:
            alone = len(sys._current_frames())
            print("child", alone, profile(0.05, OfCalls([], [])).duration_ns > 0, flush=True)
            found = []
            taker = threading.Thread(target=lambda: found.append(profile(0.3, OfCalls([], []))))
            taker.start()
            while taker.is_alive():
                sum(range(1000))
            here = [each for each in found[0].samples if each.stack[0].function == "<module>"]
            print("spent", sum(each.values[2] for each in here) > found[0].total(2) / 2, flush=True)
            os._exit(0)
        os.wait()
        print("parent", thread.is_alive())
        stop.set()
        thread.join()
        """
    )
    assert printed.splitlines() == ["child 1 True", "spent True", "parent True"]

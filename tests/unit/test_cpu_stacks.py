"""Stacks as keys and back: what is named, what is left out, and what counts as a wait."""

from __future__ import annotations

import asyncio
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from otelstream.cpu import stacks
from otelstream.cpu.stacks import Stacks
from otelstream.profile.model import Frame
from otelstream.testing import Service, serving, wait_until
from tests.cpu import suspended


def nested(depth: int) -> tuple[Frame, ...]:
    """So many calls deep, the stack there."""
    if depth:
        return nested(depth - 1)
    known = Stacks()
    return known.frames(known.of_thread(sys._getframe()))


def test_a_stack_is_innermost_first_with_the_lines_that_run() -> None:
    frames = nested(2)

    assert [frame.function for frame in frames[:3]] == ["nested"] * 3
    assert frames[0].file == __file__
    assert [frame.line - frame.start_line for frame in frames[:3]] == [5, 3, 3]
    assert frames[0].start_line == nested.__code__.co_firstlineno
    assert frames[3].function.endswith("test_a_stack_is_innermost_first_with_the_lines_that_run")


def test_of_a_deep_stack_the_outermost_frames_are_left_out() -> None:
    frames = nested(500)

    assert len(frames) == stacks._DEEPEST + 1
    assert {frame.function for frame in frames[:-1]} == {"nested"}
    assert frames[-1] == ("(left out)", "", 0, 0)


def test_the_same_place_is_the_same_key_and_another_line_is_not() -> None:
    known = Stacks()
    one, two = suspended("same"), suspended("same", line=2)

    assert known.of_thread(one.gi_frame) == known.of_thread(one.gi_frame)
    assert known.of_thread(one.gi_frame) != known.of_thread(two.gi_frame)


def test_a_coroutine_s_stack_goes_through_what_it_waits_for() -> None:
    async def inner() -> None:
        await asyncio.get_running_loop().create_future()

    async def outer() -> None:
        await inner()

    async def main() -> None:
        task = asyncio.create_task(outer())
        await asyncio.sleep(0)
        known = Stacks()
        found = known.frames(known.of_awaiting(task.get_coro()))
        assert [frame.function.split(".")[-1] for frame in found] == ["inner", "outer"]
        assert found[0].line == inner.__code__.co_firstlineno + 1
        task.cancel()

    asyncio.run(main())


def test_a_program_that_makes_code_without_end_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks, "_MOST", 3)
    known = Stacks()
    made = [suspended(f"made_{number}") for number in range(10)]
    keys = [known.of_thread(one.gi_frame) for one in made]
    names = [known.named(str(number)) for number in range(10)]

    shown = [frames[0].function for frames in map(known.frames, keys)]
    assert shown == ["made_0", "made_1", "made_2"] + ["(left out)"] * 7
    assert [known.frames(name)[0].function for name in names] == ["0", "1"] + ["(left out)"] * 8
    assert len(known._codes) <= 3
    assert [known.waits(one.gi_frame) for one in made] == [False] * 10
    assert len(known._waits) <= 3


def innermost(ident: int | None) -> Any:
    return sys._current_frames().get(ident or 0)


def test_a_thread_that_waits_for_an_event_waits() -> None:
    event = threading.Event()
    thread = threading.Thread(target=event.wait)
    thread.start()
    known = Stacks()
    wait_until(lambda: known.waits(innermost(thread.ident)), "the thread to wait")
    event.set()
    thread.join()


def test_an_idle_thread_of_a_pool_waits() -> None:
    known = Stacks()
    with ThreadPoolExecutor(1) as pool:
        ident = pool.submit(threading.get_ident).result()
        wait_until(lambda: innermost(ident).f_code.co_name == "_worker", "the pool to be idle")
        assert known.waits(innermost(ident))


def test_grpc_s_own_threads_wait_for_events() -> None:
    known = Stacks()

    def waits(name: str) -> bool:
        frames = list(sys._current_frames().values())
        return any(frame.f_code.co_name == name and known.waits(frame) for frame in frames)

    release = threading.Event()

    def hold(request: bytes, _context: Any) -> bytes:
        release.wait(20)
        return request

    service = Service("test.Waits", Hold=("unary_unary", hold))
    with serving(service) as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/test.Waits/Hold").future(b"")
        wait_until(lambda: waits("_serve"), "the server to wait")
        wait_until(lambda: waits("channel_spin"), "the channel to wait")
        release.set()
        call.result()


def test_the_application_s_own_code_works_whatever_its_name() -> None:
    known = Stacks()

    assert not known.waits(suspended("wait", "app/threading.py").gi_frame)
    assert not known.waits(suspended("_serve", "app/_server.py").gi_frame)
    assert not known.waits(sys._getframe())

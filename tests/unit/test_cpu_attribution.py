"""Which call a task or a thread works for, as the runtime's own records say it."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from otelstream.cpu.attribution import OfCalls
from otelstream.memory.origin import Origin
from otelstream.memory.outliving import OutlivingWork
from otelstream.record import Call, Outcome, RpcType, Side
from otelstream.weakbag import WeakBag

TALK = {"rpc_method": "t.Chat/Talk", "rpc_side": "server"}
LIST = {"rpc_method": "t.Chat/List", "rpc_side": "client"}


def named(work: Any) -> dict[str, str]:
    """Without the labels that are empty."""
    return {key: value for key, value in work.items() if value}


class Runtime:
    """Calls that open and end by hand."""

    def __init__(self) -> None:
        self.work = OutlivingWork()
        self.handlers: Any = WeakBag()
        self.attribution = OfCalls([self.handlers], [self.work])

    def open(self, method: str, side: Side) -> Call:
        call = Call(method, side, RpcType.BIDI_STREAM, 1)
        call.origin = Origin(call)
        self.work.enter(call)
        return call

    def end(self, call: Call) -> None:
        call.end(Outcome.OK, "OK", 2)
        self.work.ended(call)

    def of(self, task: Any) -> dict[str, str]:
        return named(self.attribution.of_task(task))


@pytest.fixture
def runtime() -> Runtime:
    return Runtime()


async def settle() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


def test_a_handler_s_task_and_what_it_started_work_for_its_call(runtime: Runtime) -> None:
    async def main() -> None:
        children: list[Any] = []
        calls: list[Call] = []
        seen_by_itself: list[Any] = []

        async def handler() -> None:
            calls.append(runtime.open("t.Chat/Talk", Side.SERVER))
            children.append(asyncio.create_task(asyncio.Event().wait()))
            seen_by_itself.append(runtime.of(asyncio.current_task()))
            await asyncio.Event().wait()

        task = asyncio.create_task(handler())
        await settle()
        assert seen_by_itself == [TALK]  # while it runs
        assert runtime.of(task) == runtime.of(children[0]) == TALK
        assert runtime.of(asyncio.current_task()) == {}
        assert runtime.attribution.loops() == [asyncio.get_running_loop()]
        runtime.end(calls[0])
        assert runtime.of(children[0]) == TALK  # it has outlived the call, and still goes on for it
        for each in (task, *children):
            each.cancel()
        await settle()

    asyncio.run(main())


def test_a_handler_that_calls_another_service_works_for_its_own_call(runtime: Runtime) -> None:
    async def main() -> None:
        async def handler() -> list[Any]:
            runtime.open("t.Chat/Talk", Side.SERVER)
            runtime.open("t.Chat/List", Side.CLIENT)
            return [runtime.of(asyncio.current_task())]

        assert await asyncio.create_task(handler()) == [TALK]

    asyncio.run(main())


def test_a_client_works_for_its_call_until_that_ends(runtime: Runtime) -> None:
    async def main() -> None:
        async def client() -> None:
            call = runtime.open("t.Chat/List", Side.CLIENT)
            assert runtime.of(asyncio.current_task()) == LIST
            runtime.end(call)
            assert runtime.of(asyncio.current_task()) == {}

        await asyncio.create_task(client())

    asyncio.run(main())


def test_a_handler_s_thread_and_one_that_it_started_work_for_its_call(runtime: Runtime) -> None:
    release = threading.Event()
    thread = threading.Thread(target=release.wait, daemon=True)

    def handle() -> Call:
        call = runtime.open("t.Chat/Talk", Side.SERVER)
        runtime.work.started(thread)
        return call

    call = contextvars.copy_context().run(handle)
    thread.start()

    class Handler(SimpleNamespace):
        __hash__ = object.__hash__

    handling = Handler(thread_id=77, call=call)
    elsewhere = Handler(thread_id=None, call=call)
    runtime.handlers.add(handling)
    runtime.handlers.add(elsewhere)
    found = {ident: named(work) for ident, work in runtime.attribution.of_threads().items()}
    assert found == {77: TALK, thread.ident: TALK}

    runtime.end(call)  # its handler goes on all the same
    assert named(runtime.attribution.of_threads()[77]) == TALK
    release.set()
    thread.join()
    assert set(runtime.attribution.of_threads()) == {77}

"""The search itself: running functions, what the garbage collector does not see, budgets, and what it leaves alone."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import itertools
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from otelstream.demo.v1 import ticks_pb2
from otelstream.intercept.sync_handling import SyncHandling
from otelstream.memory.holders import Search, holders_of
from otelstream.testing import FakeClock

HERE = Path(__file__)


def message() -> ticks_pb2.Tick:
    return ticks_pb2.Tick(symbol="secret")


def references(targets: list[Any]) -> int:
    """To the first of them, without those that the list and the call have."""
    return sys.getrefcount(targets[0]) - 2


def at(mark: str) -> str:
    """File and line of the comment ``mark`` in this file."""
    lines = HERE.read_text().splitlines()
    line = next(number for number, text in enumerate(lines, 1) if text.endswith(f"# here: {mark}"))
    return f"({HERE.name}:{line})"


def name_of(targets: list[Any], **search: Any) -> str:
    """What holds all of ``targets``."""
    found, _ = holders_of(targets, wait=int, **search)
    assert [holder.count for holder in found] == [len(targets)]
    assert "secret" not in str(found)
    return found[0].name.replace("tests/unit/", "")


def local(variable: str, function: str, mark: str) -> str:
    """As it is reported: with the qualified name of the function where Python knows it, from 3.11 on."""
    return (
        f"local `{variable}` of {function if sys.version_info >= (3, 11) else function.rsplit('.', 1)[-1]} {at(mark)}"
    )


class Service:
    """Functions that are in the middle of something while a search is made."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self.waiting = threading.Event()

    def wait(self) -> None:
        self.waiting.set()
        self.may_end.wait(30)

    def work(self, order: ticks_pb2.Tick) -> None:
        self.wait()  # here: thread

    def gather(self, order: ticks_pb2.Tick) -> None:
        batch = [order] * 20
        self.wait()  # here: list
        batch.clear()

    def boxed(self, order: ticks_pb2.Tick) -> Callable[[], object]:
        self.wait()  # here: cell
        return lambda: order

    async def talk(self, request: ticks_pb2.Tick) -> None:
        await asyncio.Event().wait()  # here: coroutine

    async def stream(self, request: ticks_pb2.Tick) -> AsyncIterator[int]:
        yield 1  # here: asynchronous generator

    def answers(self, request: ticks_pb2.Tick) -> Iterator[int]:
        yield 1  # here: generator


@pytest.mark.parametrize(
    ("method", "variable", "mark"),
    [("work", "order", "thread"), ("gather", "batch", "list"), ("boxed", "order", "cell")],
)
def test_a_variable_of_a_running_thread_is_named_and_not_kept_alive(method: str, variable: str, mark: str) -> None:
    service, targets = Service(), [message()]
    thread = threading.Thread(target=getattr(service, method), args=(targets[0],))
    thread.start()
    service.waiting.wait(30)
    before = references(targets)
    assert name_of(targets) == local(variable, f"Service.{method}", mark)
    assert references(targets) == before
    service.may_end.set()
    thread.join()
    assert references(targets) == 0


def test_a_variable_of_a_waiting_coroutine_is_named_and_let_go_of() -> None:
    async def main() -> tuple[str, int, int]:
        targets = [message()]
        task = asyncio.create_task(Service().talk(targets[0]))
        await asyncio.sleep(0)
        before = references(targets)
        name = name_of(targets)
        added = references(targets) - before
        task.cancel()
        await asyncio.wait([task])
        del task
        return name, added, references(targets)

    assert asyncio.run(main()) == (local("request", "Service.talk", "coroutine"), 0, 0)


def test_a_variable_of_a_waiting_asynchronous_generator_is_named() -> None:
    async def main() -> str:
        targets = [message()]
        stream = Service().stream(targets[0])
        await anext(stream)
        name = name_of(targets)
        await stream.aclose()  # type: ignore[attr-defined]
        return name

    assert asyncio.run(main()) == local("request", "Service.stream", "asynchronous generator")


def test_a_variable_of_a_waiting_generator_is_named() -> None:
    targets = [message()]
    answers = Service().answers(targets[0])
    next(answers)
    assert name_of(targets) == local("request", "Service.answers", "generator")
    assert next(answers, None) is None
    assert references(targets) == 0


def named_while_errors_are_kept(order: ticks_pb2.Tick, targets: list[Any], errors: list[Exception]) -> str:
    for _ in range(20):
        try:
            raise ValueError
        except ValueError as error:
            errors.append(error)
    return name_of(targets)  # here: errors


def test_the_traceback_of_a_function_that_goes_on_is_not_to_blame() -> None:
    targets, errors = [message()], []
    name = named_while_errors_are_kept(targets[0], targets, errors)
    assert name == local("order", named_while_errors_are_kept.__name__, "errors")
    errors.clear()


def test_what_a_function_sees_of_its_own_variables_is_left_alone() -> None:
    """``locals()`` is one dict per call up to Python 3.12: it must be neither emptied nor refreshed."""
    service, targets, seen = Service(), [message()], []

    def work(order: ticks_pb2.Tick) -> None:
        mine = locals()
        mine["order"] = "mine"
        service.wait()
        seen.append(mine["order"])

    thread = threading.Thread(target=work, args=(targets[0],))
    thread.start()
    service.waiting.wait(30)
    holders_of(targets, wait=int)
    service.may_end.set()
    thread.join()
    assert seen == ["mine"]


def test_a_traced_function_is_not_asked_for_its_variables() -> None:
    """Up to Python 3.12 the tracer writes the dict that it saw back into the variables."""
    service, targets, kept = Service(), [message()], []

    def tracer(frame: Any, event: str, _argument: Any) -> Any:
        if event == "line" and frame.f_code.co_name == "traced" and not service.waiting.is_set():
            service.wait()
        return tracer

    def traced(order: ticks_pb2.Tick) -> None:
        kept.append(order)

    def work() -> None:
        sys.settrace(tracer)
        traced(targets[0])
        sys.settrace(None)

    thread = threading.Thread(target=work)
    thread.start()
    service.waiting.wait(30)
    holders_of(targets, wait=int)
    service.may_end.set()
    thread.join()
    assert kept[0] is targets[0]


# What the garbage collector does not see


class Store:
    """Keeps raw bytes."""

    def __init__(self) -> None:
        self.by_peer: dict[str, bytes] = {}  # here: dict
        self.log: list[tuple[float, bytes]] = []  # here: tuples
        self.nested: dict[str, tuple[float, bytes]] = {}  # here: nested
        self.kept: list[Any] = []  # here: kept


@pytest.mark.parametrize("where", ["by_peer", "log", "nested"])
def test_raw_bytes_are_found_in_containers_that_are_not_tracked(where: str) -> None:
    store = Store()
    targets = [b"secret-%d" % index for index in range(8)]
    if where == "by_peer":
        store.by_peer.update((str(index), data) for index, data in enumerate(targets * 3))
    elif where == "log":
        store.log.extend((1.0, data) for data in targets * 3)
    else:
        store.nested.update((str(index), (1.0, data)) for index, data in enumerate(targets * 3))
    gc.collect()
    assert (
        name_of(targets)
        == {
            "by_peer": f"dict `Store.by_peer` {at('dict')}",
            "log": f"list `Store.log` {at('tuples')}",
            "nested": f"dict `Store.nested` {at('nested')}",
        }[where]
    )


def named_while_a_variable_holds(kept: Any, targets: list[Any]) -> str:
    # pytest's assertions use locals(), and such functions are left alone.
    return name_of(targets)  # here: variable


def by_variable() -> str:
    return local("kept", named_while_a_variable_holds.__name__, "variable")


def test_raw_bytes_are_found_in_a_variable_of_a_running_function() -> None:
    targets = [b"secret-%d" % index for index in range(8)]
    by_peer = {str(index): data for index, data in enumerate(targets * 3)}
    gc.collect()
    assert not gc.is_tracked(by_peer)
    assert named_while_a_variable_holds(by_peer, targets) == by_variable()


def test_what_only_c_code_holds_is_said_not_to_be_reached() -> None:
    targets = [message()]
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(targets[0]))
    try:
        found, notes = holders_of(targets, wait=int)
    finally:
        ctypes.pythonapi.Py_DecRef(ctypes.py_object(targets[0]))
    assert found == []
    assert notes == [
        "1 of 1 messages: nothing of the program was found to hold them; C code may, or a container that the garbage "
        "collector does not see"
    ]


def test_frozen_objects_are_said_to_be_hidden() -> None:
    hidden = [message()]
    targets = [*hidden]
    gc.freeze()
    try:
        found, notes = holders_of(targets, wait=int)
    finally:
        gc.unfreeze()
    assert found == []
    assert "objects that gc.freeze() hides" in notes[0]


# What the search leaves alone


@pytest.fixture
def collector_off() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("collector_off")
@pytest.mark.parametrize("finish", [True, False])
def test_nothing_is_kept_alive_and_no_cycle_is_left(finish: bool) -> None:
    store, targets = Store(), [message()]
    store.kept = targets * 20
    gone = weakref.ref(store)
    search = Search(targets, budget_s=0, clock=itertools.count().__next__)
    search.step()
    search.stop() if finish else search.holders()
    if not finish:
        del search
    del store
    assert gone() is None
    assert references(targets) == 0
    assert gc.collect() == 0


class Hostile(type):
    """Of a class whose every special method is noted, as are those of its instances."""

    calls: ClassVar[list[str]] = []

    @staticmethod
    def noting(name: str, result: Any) -> Callable[..., Any]:
        def method(*_arguments: Any) -> Any:
            if Hostile.armed:
                Hostile.calls.append(name)
            return result

        return method

    armed = False


for special, answer in {"__eq__": True, "__hash__": 1, "__repr__": "secret", "__instancecheck__": True}.items():
    setattr(Hostile, special, Hostile.noting(f"type.{special}", answer))


def hostile(*bases: type) -> Any:
    body = {name: Hostile.noting(name, "secret") for name in ("__repr__", "__str__", "__getattr__", "__format__")}
    body |= {name: Hostile.noting(name, 7) for name in ("__hash__", "__len__", "__bool__", "__index__")}
    body |= {name: Hostile.noting(name, True) for name in ("__eq__", "__contains__")}
    body |= {name: Hostile.noting(name, iter(())) for name in ("__iter__", "__reversed__")}
    body["__class__"] = property(Hostile.noting("__class__", int))
    body["kept"] = property(Hostile.noting("kept", None))
    body["read"] = lambda self: self.kept  # so that the name is known, and tempts
    return Hostile("HostileThing", bases, body | {"__init__": keeping})


def keeping(self: Any, kept: list[Any]) -> None:
    object.__setattr__(self, "_kept", kept)  # in no method as an attribute: it has to be looked for


@pytest.fixture
def armed() -> Iterator[list[str]]:
    Hostile.calls.clear()
    yield Hostile.calls
    Hostile.armed = False


@pytest.mark.parametrize("where", ["attribute", "list", "dict", "message"])
def test_no_code_of_the_program_is_run(where: str, armed: list[str]) -> None:
    targets: list[Any] = [message()]
    if where == "attribute":
        thing = hostile()(targets * 20)
    elif where == "list":
        thing = hostile(list)([])
        list.extend(thing, targets * 20)
    elif where == "dict":
        thing = hostile(dict)([])
        dict.update(thing, dict.fromkeys(range(20), targets[0]))
    else:
        targets = [hostile()([])]
        thing = targets * 20
    Hostile.armed = True
    name = named_while_a_variable_holds(thing, targets)
    Hostile.armed = False
    assert armed == []
    assert name == (f"list `HostileThing._kept` ({HERE.name})" if where == "attribute" else by_variable())


class Handling(SyncHandling):
    """The functions that are ours around the user's handler, without a call."""

    def __init__(self) -> None:
        pass

    def __exit__(self, *_raised: object) -> None:
        pass


def test_our_own_functions_and_objects_are_no_holders() -> None:
    targets = [message()]
    ours = Handling()._observed(iter(targets * 20))
    assert next(ours) is targets[0]
    clock = FakeClock()
    clock.now_ns = targets * 20  # type: ignore[assignment]
    assert holders_of(targets, wait=int)[0] == []


def test_a_handler_that_runs_inside_our_functions_is_a_holder() -> None:
    def handler(request: ticks_pb2.Tick) -> Iterator[int]:
        yield 1  # here: handler

    targets = [message()]
    ours = Handling()._observed(handler(targets[0]))
    next(ours)
    test = test_a_handler_that_runs_inside_our_functions_is_a_holder.__name__
    assert name_of(targets) == local("request", f"{test}.<locals>.handler", "handler")


def test_the_containers_that_the_caller_names_are_ignored() -> None:
    targets = [message()]
    mine = targets * 20
    assert named_while_a_variable_holds(mine, targets) == by_variable()
    assert holders_of(targets, ignore=[id(mine)], wait=int)[0] == []


# Budgets


def clock(seconds: float) -> Callable[[], float]:
    """One that says at every look that so much time has passed."""
    return map(seconds.__mul__, itertools.count()).__next__


def chained(depth: int) -> tuple[list[Any], Any]:
    """A message, and the outermost of the tuples around it."""
    targets: list[Any] = [message()]
    outer = targets[0]
    for _ in range(depth):
        outer = (outer,)
    return targets, outer


def test_a_step_ends_within_its_budget_and_the_next_one_goes_on() -> None:
    store, targets = Store(), [message()]
    store.kept = targets * 20
    search = Search(targets, clock=clock(0.15))
    assert [search.step(), search.holders()] == [False, []]
    while not search.step():
        pass
    assert [holder.name for holder in search.holders()] == [
        f"list `Store.kept` {at('kept')}".replace("(", "(tests/unit/")
    ]
    assert search.notes() == []


def test_a_pass_that_takes_longer_than_the_budget_is_the_last() -> None:
    targets, _outer = chained(3)
    search = Search(targets, clock=clock(0.3))
    assert search.step()
    assert search.notes()[-1] == (
        "one pass of the garbage collector took 300 ms, more than the 200 ms allowed: deeper levels were not searched"
    )


def test_the_number_of_steps_and_of_levels_is_bounded() -> None:
    targets, _outer = chained(30)
    waits: list[int] = []
    _, notes = holders_of(targets, budget_s=0, max_steps=3, wait=lambda: waits.append(1))
    assert len(waits) <= 3
    assert "more than the 0 ms allowed" in notes[-1] or notes[-1] == "stopped after 3 steps"
    assert holders_of(targets, wait=int)[1][-1] == "stopped after 16 levels"


def test_a_few_of_many_messages_are_followed_and_that_is_said() -> None:
    store, targets = Store(), [message() for _ in range(20)]
    store.kept = [*targets]
    found, notes = holders_of(targets, wait=int)
    assert [holder.count for holder in found] == [8]
    assert notes == ["8 of 20 messages were followed"]


def test_a_dict_of_200_000_among_a_million_objects_takes_few_passes() -> None:
    gc.disable()
    try:
        others = [[] for _ in range(800_000)]  # type: ignore[var-annotated]
        by_peer = {index: [index] for index in range(200_000)}
    finally:
        gc.enable()
    targets = [message() for _ in range(8)]
    store = Store()
    store.by_peer = by_peer  # type: ignore[assignment]
    by_peer.update({-1 - index: target for index, target in enumerate(targets)})  # type: ignore[misc]
    del by_peer
    search, passes = Search(targets, clock=clock(0.15)), 1
    while not search.step():
        passes += 1
    assert passes <= 3
    assert [holder.path for holder in search.holders()] == [("Store.by_peer", "dict of 200,008")]
    assert len(others) == 800_000


def test_nothing_to_look_for_is_nothing_to_do() -> None:
    assert holders_of([]) == ([], [])

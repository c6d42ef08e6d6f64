"""Names of what holds messages: every kind of holder, by real references to real messages."""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from otelstream.demo.v1 import ticks_pb2
from otelstream.memory.holders import Holder, holders_of

Program = Callable[[str], ModuleType]


def messages(count: int = 8) -> list[ticks_pb2.Tick]:
    return [ticks_pb2.Tick(symbol=f"secret-{index}") for index in range(count)]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    """Imports a user's program from its source, as ``app``, from a file whose lines are known."""

    def load(source: str) -> ModuleType:
        (tmp_path / "app.py").write_text(textwrap.dedent(source).lstrip())
        importlib.invalidate_caches()
        return importlib.import_module("app")

    monkeypatch.syspath_prepend(tmp_path)
    yield load
    sys.modules.pop("app", None)


def only(targets: list[ticks_pb2.Tick], count: int | None = None) -> Holder:
    """The one holder there is."""
    holders, notes = holders_of(targets, wait=lambda: None)
    assert notes == []
    (holder,) = holders
    assert holder.count == (len(targets) if count is None else count)
    assert "secret" not in str(holder)
    return holder


def keep(app: ModuleType) -> list[ticks_pb2.Tick]:
    """The program keeps twenty messages; eight of them."""
    kept = messages(20)
    some = kept[::3] + kept[1:2]
    app.keep(kept)
    return some


CASES = {
    "attribute": (
        """
        class ChatService:
            def clear(self):
                self.history = []
            def __init__(self):
                self.started = True
                self.history = []
            def keep(self, messages):
                self.history.extend(messages)
        SERVICE = ChatService()
        keep = SERVICE.keep
        """,
        "list `ChatService.history` (app.py:6)",
        ("ChatService.history", "list of 20"),
    ),
    "module global": (
        """
        CACHE: dict = {}
        def keep(messages):
            CACHE.update((f"secret-{index}", message) for index, message in enumerate(messages))
        """,
        "module global `app.CACHE` (app.py:1)",
        ("module global app.CACHE", "dict of 20"),
    ),
    "global set by a function": (
        """
        def keep(messages):
            global CACHE
            CACHE = list(messages)
        """,
        "module global `app.CACHE` (app.py:3)",
        ("module global app.CACHE", "list of 20"),
    ),
    "class attribute": (
        """
        class Service:
            other = 1
            seen = []
        def keep(messages):
            Service.seen.extend(enumerate(messages))
        """,
        "class attribute `Service.seen` (app.py:3)",
        ("class attribute Service.seen", "list of 20", "tuple of 2"),
    ),
    "closure": (
        """
        def make_handler():
            seen = []
            def talk(messages):
                seen.extend(messages)
            return talk
        keep = make_handler()
        """,
        "closure variable `seen` of make_handler.<locals>.talk (app.py:3)",
        ("closure variable seen of make_handler.<locals>.talk", "list of 20"),
    ),
    "default argument": (
        """
        def keep(messages, also=1, seen=[]):
            seen.extend(messages)
        """,
        "default argument `seen` of keep (app.py:1)",
        ("default argument seen of keep", "list of 20"),
    ),
    "keyword default": (
        """
        def keep(messages, *, seen=[]):
            seen.extend(messages)
        """,
        "default argument `seen` of keep (app.py:1)",
        ("default argument seen of keep", "list of 20"),
    ),
    "function attribute": (
        """
        def keep(messages):
            keep.seen = list(messages)
        """,
        "attribute `seen` of keep (app.py:1)",
        ("attribute seen of keep", "list of 20"),
    ),
    "lru_cache": (
        """
        import functools
        LOADED = None

        @functools.lru_cache(maxsize=100)
        def load(index):
            return LOADED[index]
        def keep(messages):
            global LOADED
            LOADED = messages
            for index in range(len(messages)):
                load(index)
            LOADED = None
        """,
        "lru_cache of `load` (app.py:4)",
        ("lru_cache of load (app.py:4)",),
    ),
    "unbounded cache": (
        """
        import functools

        class Service:
            @functools.cache
            def seen(self, key):
                return key.message
        class Key:
            def __init__(self, message):
                self.message = message
        SERVICE = Service()
        def keep(messages):
            for message in messages:
                SERVICE.seen(Key(message))
        """,
        "lru_cache of `Service.seen` (app.py:4)",
        ("lru_cache of Service.seen (app.py:4)", "dict of 20"),
    ),
    "queue.Queue": (
        """
        import queue
        INBOX = queue.Queue()
        def keep(messages):
            for message in messages:
                INBOX.put(message)
        """,
        "queue.Queue held by module global `app.INBOX` (app.py:2)",
        ("module global app.INBOX", "Queue.queue", "deque of 20"),
    ),
    "asyncio.Queue": (
        """
        import asyncio
        class Service:
            def __init__(self):
                self.inbox = asyncio.Queue()
            def keep(self, messages):
                for message in messages:
                    self.inbox.put_nowait(message)
        SERVICE = Service()
        keep = SERVICE.keep
        """,
        "asyncio.Queue `Service.inbox` (app.py:4)",
        ("Service.inbox", "Queue._queue", "deque of 20"),
    ),
    "SimpleQueue": (
        """
        import queue
        INBOX = queue.SimpleQueue()
        def keep(messages):
            for message in messages:
                INBOX.put(message)
        """,
        "queue.SimpleQueue held by module global `app.INBOX` (app.py:2)",
        None,
    ),
    "a function in the middle of a call to it": (
        """
        class Service:
            pass
        SERVICES = {}
        def history():
            if not SERVICES:  # newer than the generator, so it is found later
                SERVICES["a"] = Service()
                SERVICES["a"].history = []
            return SERVICES["a"].history
        def receive():
            while True:
                history().extend((yield))
        RECEIVER = receive()
        next(RECEIVER)
        def keep(messages):
            RECEIVER.send(list(messages))
        """,
        "list `Service.history` (app.py:1)",
        ("Service.history", "list of 20"),
    ),
    "only a function in the middle of a call": (
        """
        SLOT = []
        def receive():
            yield from SLOT.pop()
        def keep(messages):
            global RECEIVER
            SLOT.append(list(messages))
            RECEIVER = receive()
            next(RECEIVER)
        """,
        "a value in receive (app.py:3)",
        None,
    ),
    "wrappers": (
        """
        class Envelope:
            def __init__(self, payload):
                self.payload = payload
        class Service:
            def __init__(self):
                self.log = []
        SERVICE = Service()
        def keep(messages):
            SERVICE.log += map(Envelope, messages)
        """,
        "list `Service.log` (app.py:6)",
        ("Service.log", "list of 20", "Envelope.payload"),
    ),
    "slots": (
        """
        class Envelope:
            __slots__ = ("payload",)
            def __init__(self, payload):
                self.payload = payload
        class Service:
            __slots__ = ("log", "other")
            def __init__(self):
                self.log = []
        SERVICE = Service()
        def keep(messages):
            SERVICE.log += map(Envelope, messages)
        """,
        "list `Service.log` (app.py:8)",
        ("Service.log", "list of 20", "Envelope.payload"),
    ),
    "dataclass": (
        """
        from collections import OrderedDict
        from dataclasses import dataclass, field
        @dataclass
        class Service:
            name: str
            recent: OrderedDict = field(default_factory=OrderedDict)
        SERVICE = Service("x")
        def keep(messages):
            SERVICE.recent.update(enumerate(messages))
        """,
        "OrderedDict `Service.recent` (app.py:6)",
        ("Service.recent", "OrderedDict of 20"),
    ),
    "assigned from outside": (
        """
        class Service:
            pass
        SERVICE = Service()
        def keep(messages):
            SERVICE.recent = list(messages)
        """,
        "list `Service.recent` (app.py:1)",
        ("Service.recent", "list of 20"),
    ),
    "subclass of list": (
        """
        class History(list):
            pass
        HISTORY = History()
        keep = HISTORY.extend
        """,
        "module global `app.HISTORY` (app.py:3)",
        ("module global app.HISTORY", "History of 20"),
    ),
    "attribute of a subclass of list": (
        """
        class History(list):
            def keep(self, messages):
                self.more = messages[:]
        HISTORY = History()
        keep = HISTORY.keep
        """,
        "list `History.more` (app.py:3)",
        ("History.more", "list of 20"),
    ),
    "defaultdict": (
        """
        from collections import defaultdict
        class Service:
            def __init__(self):
                self.by_peer = defaultdict(list)
            def keep(self, messages):
                for index, message in enumerate(messages):
                    self.by_peer[index].append(message)
        SERVICE = Service()
        keep = SERVICE.keep
        """,
        "defaultdict `Service.by_peer` (app.py:4)",
        ("Service.by_peer", "defaultdict of 20", "list of 1"),
    ),
    "inherited": (
        """
        class Base:
            def __init__(self):
                self.history = []
        class Service(Base):
            pass
        SERVICE = Service()
        def keep(messages):
            SERVICE.history += messages
        """,
        "list `Service.history` (app.py:3)",
        ("Service.history", "list of 20"),
    ),
    "linked": (
        """
        class Entry:
            def __init__(self, message, following):
                self.message = message
                self.following = following
        class Log:
            first = None
        LOG = Log()
        def keep(messages):
            entry = None
            for message in messages:
                entry = Entry(message, entry)
                for filler in range(20):
                    entry = Entry(None, entry)
            LOG.first = entry
        """,
        "Entry `Entry.following` (app.py:4)",
        ("Entry.following",) * 3 + ("Entry.message",),
    ),
    "partial": (
        """
        import functools
        class Service:
            def __init__(self):
                self.callbacks = []
        SERVICE = Service()
        def handle(message, other):
            pass
        def keep(messages):
            for message in messages:
                SERVICE.callbacks.append(functools.partial(handle, message))
        """,
        "list `Service.callbacks` (app.py:4)",
        ("Service.callbacks", "list of 20", "functools.partial of handle (app.py:6)", "tuple of 1"),
    ),
    "one partial": (
        """
        import functools
        def handle(*messages):
            pass
        def keep(messages):
            global CALLBACK
            CALLBACK = functools.partial(handle, list(messages))
        """,
        "functools.partial of `handle` (app.py:2)",
        ("functools.partial of handle (app.py:2)", "tuple of 1", "list of 20"),
    ),
    "log handler": (
        """
        import logging
        from logging.handlers import MemoryHandler
        log = logging.Logger("orders")
        buffer_handler = MemoryHandler(1000)
        log.addHandler(buffer_handler)
        def keep(messages):
            for message in messages:
                log.warning("%s", message)
        """,
        "MemoryHandler.buffer of module global `app.buffer_handler` (app.py:4)",
        ("module global app.buffer_handler", "MemoryHandler.buffer", "list of 20", "LogRecord.args", "tuple of 1"),
    ),
    "log handler of a logger": (
        """
        import logging
        from logging.handlers import MemoryHandler
        log = logging.Logger("orders")
        log.addHandler(MemoryHandler(1000))
        def keep(messages):
            for message in messages:
                log.warning("%s", message)
        """,
        "MemoryHandler.buffer of logger `orders`",
        ("logger orders", "list of 1", "MemoryHandler.buffer", "list of 20", "LogRecord.args", "tuple of 1"),
    ),
    "tracebacks": (
        """
        errors = []
        def handle(order):
            doubled = lambda: order
            raise ValueError("no")
        def keep(messages):
            while messages:
                try:
                    handle(messages.pop())
                except ValueError as error:
                    errors.append(error)
        """,
        "module global `app.errors` (app.py:1)",
        ("module global app.errors", "list of 20", "through the traceback of ValueError", "frame handle (app.py:4)"),
    ),
    "context variable": (
        """
        import contextvars
        current = contextvars.ContextVar("current_orders")
        CONTEXT = contextvars.copy_context()
        def keep(messages):
            CONTEXT.run(current.set, list(messages))
        """,
        "context variable `current_orders`",
        ("context variable current_orders", "list of 20"),
    ),
    "finalizer": (
        """
        import weakref
        class Session:
            pass
        SESSION = Session()
        def release(messages):
            pass
        def keep(messages):
            weakref.finalize(SESSION, release, list(messages))
        """,
        "callback `release` (app.py:5) of weakref.finalize",
        ("callback release (app.py:5) of weakref.finalize", "tuple of 1", "list of 20"),
    ),
    "call_later": (
        """
        import asyncio
        LOOP = asyncio.new_event_loop()
        class Service:
            def expire(self, message):
                pass
        SERVICE = Service()
        def keep(messages):
            for message in messages:
                LOOP.call_later(1000, SERVICE.expire, message)
        def close():
            LOOP.close()
        """,
        "callback `Service.expire` (app.py:4) of loop.call_later",
        ("callback Service.expire (app.py:4) of loop.call_later", "tuple of 1"),
    ),
    "closure called later": (
        """
        import asyncio
        LOOP = asyncio.new_event_loop()
        def keep(messages):
            for message in messages:
                watch(message)
        def watch(order):
            LOOP.call_later(1000, lambda: order)
        def close():
            LOOP.close()
        """,
        "callback `watch.<locals>.<lambda>` (app.py:7) of loop.call_later",
        None,
    ),
    "event loop": (
        """
        import asyncio, functools
        LOOP = asyncio.new_event_loop()
        def handle(*messages):
            pass
        def keep(messages):
            LOOP.set_exception_handler(functools.partial(handle, *messages))
        def close():
            LOOP.close()
        """,
        "functools.partial of `handle` (app.py:3)",
        None,
    ),
    "future": (
        """
        import asyncio
        LOOP = asyncio.new_event_loop()
        pending = {}
        def keep(messages):
            for index, message in enumerate(messages):
                pending[index] = LOOP.create_future()
                pending[index].set_result(message)
        def close():
            LOOP.close()
        """,
        "module global `app.pending` (app.py:3)",
        ("module global app.pending", "dict of 20", "asyncio.Future"),
    ),
    "C container": (
        """
        import itertools
        class Service:
            def __init__(self, messages):
                self.replay = itertools.cycle(messages)
                for message in messages:
                    next(self.replay)
        def keep(messages):
            global SERVICE
            SERVICE = Service(tuple(messages))
        """,
        "cycle `Service.replay` (app.py:4)",
        None,
    ),
    "thread not started": (
        """
        import threading
        def work(messages):
            pass
        def keep(messages):
            global THREAD
            THREAD = threading.Thread(target=work, args=(list(messages),))
        """,
        "arguments of threading.Thread running `work` (app.py:2)",
        ("arguments of threading.Thread running work (app.py:2)", "tuple of 1", "list of 20"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_names_what_holds_them(case: str, program: Program) -> None:
    source, name, path = CASES[case]
    app = program(source)
    targets = keep(app)
    try:
        holder = only(targets)
        assert holder.name == name
        if path is not None:
            assert holder.path == path
    finally:
        getattr(app, "close", int)()

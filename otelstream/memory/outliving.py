"""Tasks and threads that were started inside a call and go on after it has ended.

What is started inside a call is known by a context variable. ``asyncio.create_task`` copies the context, and the copy
can be read from the task: by ``Task.get_context()`` from Python 3.12 on, before that from what the garbage collector
sees of it. So nothing is done when a task is created, and the application's own task factory is never touched. Threads
inherit nothing before Python 3.14: ``threading.Thread.start`` is wrapped, and notes the starter's call.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import thread as pools
from contextvars import Context
from typing import Any, NamedTuple

from otelstream.findings import Outliving
from otelstream.history import MethodKey
from otelstream.memory import whereabouts
from otelstream.memory.origin import ORIGIN, Origin
from otelstream.record import Call, RpcType, Side
from otelstream.weakbag import WeakBag

_GRACE_S = 1.0
"""What ends this soon after its call was about to."""
_MOST_THREADS = 10_000


class _Started(NamedTuple):
    thread: weakref.ref[threading.Thread]
    origin: Origin


class _Alive(NamedTuple):
    """One task or thread that was started inside a call."""

    item: Any
    origin: Origin
    outlives: bool
    """The call has ended."""


class OutlivingWork:
    """An observer of calls, and what it found at the last look."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start from nothing: at first, and in a forked child."""
        self._loops: WeakBag[asyncio.AbstractEventLoop] = WeakBag()
        self._threads: list[_Started] = []
        self._inside: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        self._looked_ns = 0
        self._looking = threading.Lock()
        """The ticker looks, and whoever asks for a report."""
        self.tasks: dict[MethodKey, int] = {}
        """Outliving tasks at the last look."""
        self.inside: dict[MethodKey, int] = {}
        """Tasks inside calls that are open."""
        self.threads: dict[MethodKey, int] = {}

    def enter(self, call: Call) -> None:
        """``call`` goes on in the current context: what is started from here on is inside it."""
        task = _current_task()
        origin: Origin = call.origin
        if call.side is Side.CLIENT:
            current = ORIGIN.get()
            origin.outer = current if current is None or current.key.side is Side.SERVER else current.outer
        origin.made_in = weakref.ref(task) if task is not None else None
        ORIGIN.set(origin)
        if task is not None:
            loop = task.get_loop()
            if loop not in self._loops:
                self._loops.add(loop)

    def opened(self, call: Call) -> None:
        """A client's call is made in the caller's context; a server's handler enters its own (``enter``)."""
        if call.side is Side.CLIENT and call.rpc_type is not RpcType.UNARY:
            self.enter(call)

    def ended(self, call: Call) -> None:
        """What was started inside and is alive from now on outlives it."""
        if call.origin is not None:
            call.origin.ended_ns = call.end_ns
            call.origin = None

    def started(self, thread: threading.Thread) -> None:
        """``thread`` is about to start, in the current context."""
        origin = _open_origin(ORIGIN.get())
        if origin is None or len(self._threads) >= _MOST_THREADS or _serves_a_pool(thread):
            return
        self._threads.append(_Started(weakref.ref(thread), origin))

    def look(self, now_ns: int) -> None:
        """Count what is alive. Cost: 2 ms per 1,000 tasks inside calls (``python -m benchmarks.leaks``)."""
        with self._looking:
            self._look(now_ns)

    def _look(self, now_ns: int) -> None:
        for started in list(self._threads):
            if not _is_alive(started.thread()):
                self._threads.remove(started)  # in place: others append meanwhile
        tasks: dict[MethodKey, int] = {}
        inside: dict[MethodKey, int] = {}
        threads: dict[MethodKey, int] = {}
        for alive in self._alive(now_ns, _GRACE_S):
            ended = threads if isinstance(alive.item, threading.Thread) else tasks
            counts = ended if alive.outlives else inside
            counts[alive.origin.key] = counts.get(alive.origin.key, 0) + 1
        self._looked_ns = now_ns
        self.tasks, self.inside, self.threads = tasks, inside, threads

    def loops(self) -> list[asyncio.AbstractEventLoop]:
        """Those that calls were made or handled on."""
        return self._loops.all()

    def of_threads(self) -> dict[int, Origin]:
        """The call that each living thread was started in, by the thread's identifier."""
        threads = [(started.thread(), started.origin) for started in list(self._threads)]
        return {thread.ident or 0: origin for thread, origin in threads if thread is not None and thread.is_alive()}

    @property
    def any(self) -> bool:
        """Something was started inside a call and is alive, as of the last look."""
        return bool(self.tasks or self.inside or self.threads)

    def _alive(self, now_ns: int, grace_s: float) -> Iterator[_Alive]:
        since_ns = now_ns - int(grace_s * 1e9)
        for started in list(self._threads):
            thread = started.thread()
            origin = _ended_origin(started.origin, since_ns)
            if origin is not None and thread is not None and thread.is_alive():
                yield _Alive(thread, origin, outlives=True)
        for loop in self._loops.all():
            for task in asyncio.all_tasks(loop):
                origin = self._origin_of(task)
                if origin is None:
                    continue
                ended = _ended_origin(origin, since_ns)
                if ended is not None:
                    yield _Alive(task, ended, outlives=True)
                elif not origin.ended_ns:
                    yield _Alive(task, origin, outlives=False)

    def _origin_of(self, task: asyncio.Task[Any]) -> Origin | None:
        """The call that ``task`` was started in, open or ended."""
        origin = origin_in(task)
        if origin is None or whereabouts.is_grpcs(task):
            return None
        if origin.key.side is Side.CLIENT:
            # The caller's context stays marked when the call is over: only what was there before is inside it.
            in_time = origin.ended_ns == 0 or origin.ended_ns >= self._looked_ns
            if _made_in(origin, task) or not (in_time or task in self._inside):
                origin = origin.outer
            else:
                self._inside.add(task)
        return None if origin is None or _made_in(origin, task) else origin

    def groups(
        self, now_ns: int, *, grace_s: float = _GRACE_S, since_ns: int = 0, inside: bool = False
    ) -> list[Outliving]:
        """What is alive now, by method and by what it does; the largest groups first.

        Only of calls that started at ``since_ns`` or later, and that ended ``grace_s`` ago or earlier; with ``inside``,
        tasks of open calls, too.
        """
        frames = sys._current_frames()
        found: dict[tuple[MethodKey, bool, str, str | None], list[int]] = {}
        for alive in self._alive(now_ns, grace_s):
            if alive.origin.start_ns < since_ns or not (alive.outlives or inside):
                continue
            if isinstance(alive.item, threading.Thread):
                name, waits_at = whereabouts.of_thread(alive.item, frames.get(alive.item.ident or 0))
            else:
                name, waits_at = whereabouts.of_task(alive.item)
            key = alive.origin.key, isinstance(alive.item, threading.Thread), name, waits_at
            found.setdefault(key, []).append(alive.origin.ended_ns or now_ns)
        del frames
        groups = [
            Outliving(
                method=key.method,
                side=key.side.value,
                is_thread=is_thread,
                name=name,
                waits_at=waits_at,
                count=len(ended),
                oldest=max(0, now_ns - min(ended)) / 1e9,
            )
            for (key, is_thread, name, waits_at), ended in found.items()
        ]
        return sorted(groups, key=lambda group: -group.count)


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop runs here
        return None


def _made_in(origin: Origin, task: asyncio.Task[Any]) -> bool:
    return origin.made_in is not None and origin.made_in() is task


def _open_origin(origin: Origin | None) -> Origin | None:
    while origin is not None and origin.ended_ns:
        origin = origin.outer
    return origin


def _ended_origin(origin: Origin, since_ns: int) -> Origin | None:
    """The outermost call around, if it is over: a server's call that a client's is part of says more than that."""
    outer = origin.outer
    if outer is not None and 0 < outer.ended_ns <= since_ns:
        return outer
    return origin if 0 < origin.ended_ns <= since_ns else None


def _is_alive(thread: threading.Thread | None) -> bool:
    return thread is not None and (thread.is_alive() or thread.ident is None)  # about to start


def _serves_a_pool(thread: threading.Thread) -> bool:
    """A thread of a pool outlives the call that happened to need it first; so do grpc's own, but for one."""
    target = getattr(thread, "_target", None)
    if target is getattr(pools, "_worker", None):
        return True
    module = getattr(target, "__module__", None) or ""
    return module.split(".")[0] == "grpc" and "consume_request_iterator" not in getattr(target, "__qualname__", "")


if sys.version_info >= (3, 12):

    def origin_in(task: asyncio.Task[Any]) -> Origin | None:
        """What the context of ``task`` says: the last call that was entered there, open or ended."""
        return task.get_context().get(ORIGIN)

else:

    def origin_in(task: asyncio.Task[Any]) -> Origin | None:
        """What the context of ``task`` says: the last call that was entered there, open or ended."""
        # A task written in C shows its context to the garbage collector alone, before those of its callbacks.
        context = getattr(task, "_context", None)
        if context is None:
            context = next((item for item in gc.get_referents(task) if type(item) is Context), None)
        return context.get(ORIGIN) if context is not None else None

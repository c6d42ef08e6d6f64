"""Messages that stay referenced after they were read or sent, and calls that do after they ended: by method and side.

Where the heap profiler runs, messages are followed by address (``watched.py``), as far as that can be done. The others
are sampled (``samples.py``): which, is decided per direction of each call, a message's place being its number there
plus an offset that is random per call.
"""

from __future__ import annotations

import math
import random
import weakref
from collections import defaultdict
from collections.abc import Collection
from enum import Enum
from typing import Any

from otelstream import semconv
from otelstream.history import MethodKey
from otelstream.memory.heap import PROFILER
from otelstream.memory.samples import BUDGET_BYTES, Estimate, Held, Pool
from otelstream.memory.watched import WatchedMessages
from otelstream.record import Call, Outcome

_TOTAL_BUDGET_BYTES = 4 * BUDGET_BYTES
_MOST_METHODS = 1000


class What(Enum):
    """What is followed."""

    MESSAGE = "message"
    STREAM = "stream"
    """grpc's object for a call that has ended: a server's context, a client's call."""


def new_held() -> Held:
    """What one process may hold of all its methods."""
    return Held(_TOTAL_BUDGET_BYTES)


class _Follower:
    """Chooses the messages of one direction of one call. Holds neither the call nor its flow: no reference cycle."""

    __slots__ = ("_call_id", "_every", "_offset", "_pool", "_sent")

    def __init__(self, pool: Pool, call_id: int, offset: int, *, sent: bool) -> None:
        self._pool = pool
        self._sent = sent
        self._call_id = call_id
        self._every = pool.every
        self._offset = offset

    def first(self) -> int:
        """The id of the first message to be sampled."""
        return self._every - self._offset % self._every

    def __call__(self, message: Any, number: int, size: int, now_ns: int) -> int:
        pool = self._pool
        place = number + self._offset
        weight = max(self._every, pool.every)
        if place % weight == 0 and not _shared(message):
            pool.add(message, place, weight, size, self._call_id, now_ns, sent=self._sent)
        self._every = every = pool.every
        return number + every - place % every


def _shared(message: Any) -> bool:
    """Python itself may hold such an object, so that its reference count says nothing."""
    kind = type(message)
    return kind in _SCALARS or (kind in _SEQUENCES and len(message) < 2)  # noqa: PLR2004  # those are cached


_SCALARS = frozenset({type(None), bool, int, float})
_SEQUENCES = frozenset({bytes, str, tuple})


class RetainedMessages:
    """An observer of calls: follows their messages, and grpc's own objects after calls have ended."""

    def __init__(self, limit: int, after_s: float, held: Held | None = None) -> None:
        """``limit``: samples per method and side, 0 for none. ``after_s``: until then a message is being worked on.

        ``held``: shared with others that may follow the same messages.
        """
        self._limit = limit
        self._held = held or new_held()
        self._after_ns = int(after_s * 1e9)
        self._by_call: dict[int, float] = {}
        self._pools: dict[tuple[MethodKey, What], Pool] = {}
        self._watched: WatchedMessages | None = None
        """Since the first call that came while the heap profiler ran."""

    def reset(self) -> None:
        """Let go of everything: nothing is recorded any more."""
        watched, self._watched = self._watched, None
        if watched is not None:
            watched.close()
        for pool in list(self._pools.values()):
            pool.close()  # calls that are still open go on adding to it
        self._pools, self._by_call = {}, {}

    def forget(self, held: Held) -> None:
        """Start from nothing in a forked child, with a lock of its own."""
        watched, self._watched = self._watched, None
        if watched is not None:
            watched.close()
        for pool in list(self._pools.values()):
            pool.forget()
        self._held, self._pools, self._by_call = held, {}, {}

    def attach(self, call: Call) -> None:
        """Follow the messages of a new ``call``."""
        if not self._limit:
            return
        key, pool = self._pool(call, What.MESSAGE)
        offset = random.getrandbits(20)  # one for both directions: an echo's message is sampled in both, or in none
        if self._watched is None and PROFILER.running:
            self._watched = WatchedMessages(PROFILER.native)
        for flow in (call.sent, call.received):
            sent = flow is call.sent
            follower = _Follower(pool, call.id, offset, sent=sent)
            flow.follow, flow.follow_at = follower, follower.first()
            if self._watched is not None:
                self._watched.attach(key, call.id, flow, follower, sent=sent)

    def _pool(self, call: Call, what: What) -> tuple[MethodKey, Pool]:
        key = MethodKey(call.method, call.side), what
        pool = self._pools.get(key)
        if pool is None:
            if len(self._pools) >= 2 * _MOST_METHODS:
                key = MethodKey(semconv.UNKNOWN_METHOD, call.side), what
            pool = self._pools.setdefault(key, Pool(self._limit, held=self._held))
        return key[0], pool

    def opened(self, call: Call) -> None:
        """Its messages are followed since before."""

    def ended(self, call: Call) -> None:
        """Follow grpc's object for the call, which should be gone soon."""
        call_object, call.call_object = call.call_object, None
        if call_object is None or not self._limit or call.outcome in (Outcome.ABANDONED, Outcome.OPEN_AT_EXIT):
            return  # an abandoned asyncio call is kept by grpcio itself (grpc #43462)
        item = call_object() if isinstance(call_object, weakref.ref) else call_object
        if item is None:
            return
        _, pool = self._pool(call, What.STREAM)
        place = random.getrandbits(30)
        if place % pool.every == 0:
            pool.add(item, place, pool.every, 0, call.id, call.end_ns)

    def sweep(self, now_ns: int, open_ids: Collection[int], *, at_once: bool = False) -> None:
        """Look at every message once. ``open_ids``: of the calls that are open.

        ``at_once``: whatever is referenced now is retained, however young.
        """
        after_ns = 0 if at_once else self._after_ns
        by_call: dict[int, float] = defaultdict(float)
        is_open = frozenset(open_ids).__contains__
        for (_, what), pool in list(self._pools.items()):
            if what is What.MESSAGE:
                pool.sweep(now_ns, after_ns, is_open)
                by_call.update(pool.by_call())
            else:
                pool.sweep(now_ns, after_ns, lambda _call_id: True)
        if self._watched is not None:
            self._watched.sweep(now_ns, after_ns, open_ids)
            for call_id, count in self._watched.by_call().items():
                by_call[call_id] += count
        self._by_call = by_call

    def of_call(self, call: Call) -> float:
        """Messages of ``call`` that were retained at the last sweep."""
        return self._by_call.get(call.id, 0.0)

    def estimates(self, what: What) -> dict[MethodKey, Estimate]:
        """By method and side, those that have nothing retained included."""
        found = {key: pool.estimate() for (key, kind), pool in list(self._pools.items()) if kind is what}
        if what is What.MESSAGE and self._watched is not None:
            for key, exact in self._watched.estimates().items():
                sampled = found.get(key)
                found[key] = exact if sampled is None or not sampled.count else _both(exact, sampled)
        return found

    def items(self, key: MethodKey, what: What, most: int, since_ns: int = 0, *, sent: bool | None = None) -> list[Any]:
        """Up to ``most`` retained objects of one row (``sent``: messages of that direction only).

        The caller must let go of them soon.
        """
        pool = self._pools.get((key, what))
        found = pool.retained_items(most, since_ns, sent=sent) if pool is not None else []
        if what is What.MESSAGE and self._watched is not None:
            found += self._watched.items(key, most - len(found), since_ns, sent=sent)
        return found

    def counts_since(self, since_ns: int, *, sent: bool) -> dict[tuple[MethodKey, What], float]:
        """What was sent, or received, at ``since_ns`` or later and is retained; rows with nothing are left out."""
        counts = {row: pool.count_since(since_ns, sent=sent) for row, pool in list(self._pools.items())}
        if self._watched is not None:
            for key, count in self._watched.count_since(since_ns, sent=sent).items():
                counts[key, What.MESSAGE] = counts.get((key, What.MESSAGE), 0.0) + count
        return {row: count for row, count in counts.items() if count}


def _both(exact: Estimate, sampled: Estimate) -> Estimate:
    """Some of a method's messages are followed by address, others are sampled."""
    error = math.hypot(exact.error, sampled.error)
    return Estimate(exact.count + sampled.count, error, exact.size + sampled.size, max(exact.every, sampled.every))

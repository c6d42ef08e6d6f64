"""Messages that are followed by the address of their memory until it is freed: none of them is held.

Every one of them, up to 65,536 at once in the process; of more, every second, fourth and so on.

For objects whose memory is given back when they are destroyed: protobuf's messages, instances of classes, bytes and
strings. The heap profiler's extension sees that; what it does not follow, and all messages where it does not run, are
sampled by reference (``samples.py``).
"""

from __future__ import annotations

import itertools
import math
from array import array
from collections.abc import Collection
from functools import partial
from typing import Any

from otelstream.history import MethodKey
from otelstream.memory.samples import SETTLED_NS, Estimate
from otelstream.record import Flow, Follow

_95_PERCENT = 1.96
_SOMEBODY_ELSES = -1.0
_groups = itertools.count(1)


class WatchedMessages:
    """Those of one runtime, by method and side."""

    def __init__(self, native: Any) -> None:
        self._native = native
        self._groups: dict[MethodKey, int] = {}
        self._estimates: dict[MethodKey, Estimate] = {}
        self._by_call: dict[int, float] = {}

    def attach(self, key: MethodKey, call_id: int, flow: Flow, otherwise: Follow, *, sent: bool) -> None:
        """Follow what goes through ``flow``. ``otherwise`` is asked about a message that can't be followed so.

        Cost: 130 ns per message (``python -m benchmarks.heap``).
        """
        group = self._groups.get(key)
        if group is None:
            group = self._groups.setdefault(key, next(_groups))
        flow.follow, flow.follow_at = partial(self._native.follow, (group, call_id, sent, otherwise)), 1

    def close(self) -> None:
        """Follow nothing any more."""
        groups, self._groups, self._estimates, self._by_call = self._groups, {}, {}, {}
        for group in groups.values():
            self._native.unwatch(group)

    def sweep(self, now_ns: int, after_ns: int, open_ids: Collection[int]) -> None:
        """What is ``after_ns`` old, or of a call that is not open, is retained. Cost: 1 ms per 100,000 followed."""
        groups = dict(self._groups)
        ids = array("q", sorted(open_ids))
        of_call = array("d", bytes(8 * len(ids)))
        sizes = array("d", [_SOMEBODY_ELSES]) * (max(groups.values(), default=0) + 1)
        counts = array("d", bytes(8 * len(sizes)))
        for group in groups.values():
            sizes[group] = 0.0
        self._native.tally(now_ns, after_ns, min(after_ns, SETTLED_NS), ids, of_call, counts, sizes)
        every = self._native.statistics()["watched_every"]
        self._by_call = {call_id: count for call_id, count in zip(ids, of_call, strict=True) if count}
        self._estimates = {
            key: Estimate(counts[group], _95_PERCENT * math.sqrt(counts[group] * (every - 1)), sizes[group], every)
            for key, group in groups.items()
        }

    def by_call(self) -> dict[int, float]:
        """What was retained at the last sweep, by the id of its call, while that is open."""
        return self._by_call

    def estimates(self) -> dict[MethodKey, Estimate]:
        """The same by method and side."""
        return self._estimates

    def items(self, key: MethodKey, most: int, since_ns: int, *, sent: bool | None) -> list[Any]:
        """Up to ``most`` of them that came at ``since_ns`` or later. The caller must let go of them soon."""
        return list(self._retained(key, since_ns, sent, most)[1])

    def count_since(self, since_ns: int, *, sent: bool) -> dict[MethodKey, float]:
        """How many were sent, or received, at ``since_ns`` or later."""
        return {key: float(self._retained(key, since_ns, sent, 0)[0]) for key in list(self._groups)}

    def _retained(self, key: MethodKey, since_ns: int, sent: bool | None, most: int) -> tuple[int, list[Any]]:
        group = self._groups.get(key)
        if group is None:
            return 0, []
        found: tuple[int, list[Any]] = self._native.retained(group, since_ns, -1 if sent is None else sent, most)
        return found

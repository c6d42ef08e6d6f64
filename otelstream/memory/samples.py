"""Objects that are followed until nobody else refers to them: a bounded pool of samples, and what they amount to.

protobuf's (upb) messages take no weak references, so a sample holds its message and a sweep looks at the reference
count: back to ours alone means that the application has let go, and so do we. What takes weak references is followed
by one, and never kept alive.

Every object has a place, a number; it is sampled when n divides its place, n a power of two. So thinning to 2n keeps
exactly what 2n would have chosen, and an object stands for as many as n was when it was chosen (its weight): the sum of
the weights is an unbiased estimate (Horvitz and Thompson, 1952), and exact where everything is kept and n is 1.
"""

from __future__ import annotations

import math
import sys
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

BUDGET_BYTES = 16 * 1024 * 1024
"""Wire size of the messages that one pool holds."""
_BURST = 8192
"""Objects that may be sampled at once before n grows, and how many a second from then on: what sampling costs."""
_PER_SECOND = 200
_QUIET_S = 10.0
"""How long fewer must have come before n is halved again."""
_LARGEST_N = 1 << 20
_MOST_REPEATED = 8192
SETTLED_NS = 1_000_000_000
"""Age of a message whose call, if it is not open, has ended: a request may wait for a thread before."""
_95_PERCENT = 1.96


class Sample:
    """One object that is followed, and how many it stands for."""

    __slots__ = ("call_id", "held", "place", "reference", "retained", "sent", "size", "time_ns", "weight")

    def __init__(self, item: Any, place: int, weight: int, size: int, call_id: int, time_ns: int, sent: bool) -> None:
        self.place = place
        self.weight = weight
        self.size = size
        self.call_id = call_id
        self.time_ns = time_ns
        self.sent = sent
        self.retained = False
        takes_weak = type(item).__weakrefoffset__ != 0  # to try it, and to fail, would take most of the time
        self.held: Any = None if takes_weak else item
        self.reference: Callable[[], Any] | None = weakref.ref(item) if takes_weak else None

    def released(self, times: int) -> bool:
        """Nobody but us, who hold it ``times`` times, refers to it any more."""
        if self.reference is not None:
            return self.reference() is None
        return sys.getrefcount(self.held) < _OURS_ALONE + times

    def item(self) -> Any:
        return self.held if self.reference is None else self.reference()


def _references_to_held() -> int:
    class Probe:
        __slots__ = ()  # takes no weak references, like a message

    sample = Sample(Probe(), 0, 1, 0, 0, 0, sent=False)
    return sys.getrefcount(sample.held)


_OURS_ALONE = _references_to_held()
"""What ``getrefcount`` says of an object that only a sample holds; differs between Python versions."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """How much of one method is retained."""

    count: float = 0.0
    error: float = 0.0
    """Half the 95 % interval of ``count``; from the sampling alone."""
    size: float = 0.0
    """By on the wire."""
    every: int = 1
    """One in this many is sampled now."""


class Held:
    """What the pools that share it hold together, and their lock."""

    __slots__ = ("bytes", "limit", "lock", "times")

    def __init__(self, limit: int = sys.maxsize) -> None:
        """``limit``: By."""
        self.bytes = 0
        self.limit = limit
        self.times: dict[int, int] = {}
        """How many samples hold an object, by its id: a proxy's message is received and sent, by two methods."""
        # A garbage collection inside may run a destructor that sends a message: re-entrant.
        self.lock = threading.RLock()


class Pool:
    """The samples of one method and side. Bounded in number and in bytes held."""

    def __init__(self, limit: int, budget: int = BUDGET_BYTES, held: Held | None = None) -> None:
        """``held``: what this pool shares with others."""
        self.every = 1
        self.held_bytes = 0
        self._limit = limit
        self._budget = budget
        self._all = held or Held()
        self._samples: dict[int, Sample] = {}
        """By the object's id, which is its own for as long as it lives."""
        self._left = _BURST
        self._fresh = 0
        self._swept_ns = 0
        self._quiet_s = 0.0
        self._closed = False
        self._repeated: dict[int, None] = {}
        """Ids of what was sent and lives, the newest last: should it come again, it is one object, a constant or a row
        of a table, and no new message. Not held, so an id may be another's by now."""
        self._lock = self._all.lock

    def __len__(self) -> int:
        return len(self._samples)

    def add(
        self, item: Any, place: int, weight: int, size: int, call_id: int, time_ns: int, *, sent: bool = False
    ) -> None:
        """Follow ``item``, which stands for ``weight`` items."""
        gone: list[Sample] = []  # destroyed when the lock is free again: a destructor may wait for whom we keep waiting
        with self._lock:
            if self._closed:
                return
            self._fresh += 1
            self._left -= 1
            if self._left <= 0:
                self._left = 2 * _PER_SECOND
                self.every = min(2 * self.every, _LARGEST_N)
            known = self._samples.get(id(item))
            if known is not None and known.item() is item:
                if known.sent is sent:  # else a message that was received is sent on
                    self._repeats(id(item))
                    known.weight = 1
                return
            if known is not None:
                self._drop(known, id(item), gone)
            if len(self._samples) >= self._limit or self._too_large(size):
                if size > self._budget:
                    return
                self._make_room(size, gone)
                if place % self.every or self._too_large(size):
                    return
                weight = max(weight, self.every)
            if sent and id(item) in self._repeated:
                weight = 1
            sample = Sample(item, place, weight, size, call_id, time_ns, sent)
            self._samples[id(item)] = sample
            if sample.held is not None:
                self._hold(size)
                self._all.times[id(item)] = self._all.times.get(id(item), 0) + 1

    def _repeats(self, key: int) -> None:
        """Remember what was sent: see ``_repeated``."""
        self._repeated[key] = None
        if len(self._repeated) > _MOST_REPEATED:
            del self._repeated[next(iter(self._repeated))]

    def _too_large(self, size: int) -> bool:
        return self.held_bytes + size > self._budget or self._all.bytes + size > self._all.limit

    def _hold(self, size: int) -> None:
        self.held_bytes += size
        self._all.bytes += size

    def _make_room(self, size: int, gone: list[Sample]) -> None:
        """Drop what was let go; if that is not enough, sample less, until a quarter is free."""
        self._drop_released(gone)
        least = min((sample.weight for sample in self._samples.values()), default=1)
        while self._samples and (len(self._samples) > self._limit * 3 // 4 or self._too_large(size)):
            least *= 2
            self.every = min(max(self.every, least), _LARGEST_N)
            for key, sample in list(self._samples.items()):
                if sample.place % least or least > _LARGEST_N:
                    if sample.sent:
                        self._repeats(key)  # it lives: should it come again, it is the same
                    self._drop(sample, key, gone)
                elif not (sample.sent and key in self._repeated):
                    sample.weight = max(sample.weight, least)

    def _drop_released(self, gone: list[Sample]) -> None:
        for key, sample in list(self._samples.items()):
            if sample.released(self._all.times.get(key, 1)):
                self._drop(sample, key, gone)

    def _drop(self, sample: Sample, key: int, gone: list[Sample]) -> None:
        if self._samples.pop(key, None) is not None and sample.held is not None:
            self._hold(-sample.size)
            times = self._all.times.pop(key) - 1
            if times:
                self._all.times[key] = times
        gone.append(sample)

    def close(self) -> None:
        """Let go of everything, and follow nothing any more."""
        gone: list[Sample] = []
        with self._lock:
            self._closed = True
            for key, sample in list(self._samples.items()):
                self._drop(sample, key, gone)

    def forget(self) -> None:
        """The same in a forked child: whoever held the lock is not here, so it is not asked for."""
        self._closed = True
        self._samples = {}

    def sweep(self, now_ns: int, after_ns: int, is_open: Callable[[int], bool]) -> None:
        """Drop what was let go; what is ``after_ns`` old, or of a call that has ended, is retained from now on."""
        gone: list[Sample] = []
        with self._lock:
            self._drop_released(gone)
            for sample in self._samples.values():
                if not sample.retained:
                    age_ns = now_ns - sample.time_ns
                    is_settled = age_ns >= min(after_ns, SETTLED_NS)  # else its call may be about to open
                    has_ended = is_settled and not is_open(sample.call_id)
                    sample.retained = age_ns >= after_ns or age_ns < 0 or has_ended  # below 0: the clock was set back
            elapsed_s = max(0.0, (now_ns - self._swept_ns) / 1e9)
            self._left = min(_BURST, self._left + int(_PER_SECOND * min(elapsed_s, 60.0)))
            is_quiet = self._fresh * 4 < _PER_SECOND * min(elapsed_s, 1.0)
            has_room = len(self._samples) < self._limit // 2 and not self._too_large(self._budget // 2)
            self._quiet_s = self._quiet_s + elapsed_s if is_quiet and has_room else 0.0
            if self._quiet_s >= _QUIET_S and self.every > 1:
                self.every //= 2
                self._quiet_s = 0.0
            self._fresh = 0
            self._swept_ns = now_ns

    def estimate(self) -> Estimate:
        """What is retained, as of the last sweep."""
        with self._lock:
            count = size = variance = 0
            for sample in self._samples.values():
                if sample.retained:
                    count += sample.weight
                    size += sample.weight * sample.size
                    variance += sample.weight * (sample.weight - 1)
            return Estimate(float(count), _95_PERCENT * math.sqrt(variance), float(size), self.every)

    def by_call(self) -> dict[int, float]:
        """What is retained, by the id of its call."""
        with self._lock:
            counts: dict[int, float] = {}
            for sample in self._samples.values():
                if sample.retained:
                    counts[sample.call_id] = counts.get(sample.call_id, 0.0) + sample.weight
            return counts

    def count_since(self, since_ns: int, *, sent: bool) -> float:
        """What was sent, or received, at ``since_ns`` or later and is retained."""
        with self._lock:
            found = (s for s in self._samples.values() if s.retained and s.time_ns >= since_ns and s.sent is sent)
            return float(sum(sample.weight for sample in found))

    def retained_items(self, most: int, since_ns: int = 0, *, sent: bool | None = None) -> list[Any]:
        """Up to ``most`` retained objects, spread over the time they came in. The caller must let go of them soon."""
        with self._lock:
            samples = [s for s in self._samples.values() if s.retained and s.time_ns >= since_ns]
            samples = [s for s in samples if sent is None or s.sent is sent]
            step = max(1, len(samples) // most)
            items = [sample.item() for sample in samples[::step][:most]]
        return [item for item in items if item is not None]

"""Does a series of numbers grow for good, and how fast? Statistics only; times are minutes.

Growing is not yet leaking: caches warm up, batches come and go. A series leaks when the level that it never falls
below again rises, in each part of the time, without dying away, and when it has not been seen to climb like this and
fall back. ``leak`` asks this of the last 12 samples, of more, and of all there are: short windows find what began
minutes ago, long ones what is slow, or hides in noise.

What can't be told: the first climb of a sawtooth, and a cache on its way to a bound, look like leaks until they do fall
back or slow down.
"""

from __future__ import annotations

import itertools
import math
import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from typing import NamedTuple

from otelstream.slope import NORMAL_95, Slope, sen

_LEAST = 12
"""Samples that a window must have: with fewer, chance gives any shape."""
_HOLDS = 3
"""Samples ago that there must have been growth, too."""
ENOUGH = _LEAST + _HOLDS
"""Samples after which something can be said."""

_WINDOWS = (480, 360, 270, 210, 160, 120, 90, 66, 50, 36, 26, 18, _LEAST)
"""Samples looked back on: 6.3 h, where those of 20 min ago and older are thinned to a sixth, to 2 min."""

_EACH_THIRD = 0.1
"""Part of the whole rise that each third must have at least: a step is not a trend."""
_LAST_THIRD = 0.4
"""Part of the mean rise of a third that the last one must have: warm-up that decays has less."""
_SLOWING = 0.75
"""The last third's slope over the middle one's, below which growth dies away: steady growth has 1, a logarithm 0.6."""
_SPEEDING_UP = 1.5
"""A rate this many times the one before is something new, whatever came earlier."""
_PARTS, _DRIFT = 12, 2.4
"""Student's t of the steps from part to part: by chance in 1 of 50 series."""
_STOPPED_AFTER = 30
"""Samples (5 min) after which growth that is flat has stopped. Less would drop a leak whenever the load pauses."""
_STOPPED_BELOW = 0.25
"""Part of the whole slope below which the end is flat."""
_STOPPED_ABOVE = 4
"""Times the median distance from the slope that the end must have missed to be flat: stairs always miss some."""
_FALL = 0.5
"""Part of a rise that a fall must have to be the other half of a tooth."""
_UNLIKE = 1.5
"""A climb this many times higher or longer than every tooth before is not one of them."""
_NEAR = 0.1
_UNSEEN = 360
"""Samples (1 h) that a tooth may have lasted whose climb was not seen."""
_TROUGHS = 6
"""Troughs that show a trend: the slope of fewer has no 95 % interval."""
_TROUGH_FALL = 0.25
"""Part of the range that a fall must have for its end to be a trough."""

_EVENTS_WITHIN = 120
_EVENT_STEPS = 3
"""Samples that must show new events: one burst is no habit."""
_MIDDLE, _LAST = slice(1, 2), slice(2, 3)
"""Thirds of a window."""

Floor = Callable[[float], float]
"""The least rise that counts, by the level it starts from."""


class Leak(NamedTuple):
    """Growth for good."""

    slope: Slope
    since: float
    """min; the first sample of the window it was found in."""


def leak(times: Sequence[float], values: Sequence[float], floor: Floor, interval: float) -> Leak | None:
    """The growth in the longest window that shows growth for good, and did some samples ago; None when none does.

    ``interval`` is that of the newest samples; ``times`` must rise. What wanders at random looks like growth now and
    then, rarely for long: of 36 random hours 15 had an alarm, and 4 when it had to hold.
    """
    found = _leak(times, values, floor, interval)
    return found if found and _leak(times[:-_HOLDS], values[:-_HOLDS], floor, interval) else None


def _leak(times: Sequence[float], values: Sequence[float], floor: Floor, interval: float) -> Leak | None:
    if len(values) < _LEAST:
        return None
    series = _Series(times, values, floor, interval)
    if series.lowest[-3] - series.lowest[0] < floor(series.lowest[0]):
        return None
    rises = [series.rise(start) for start in sorted({max(0, len(values) - window) for window in _WINDOWS})]
    for look in (_grows, _troughs_rise):
        for index, rise in enumerate(rises):
            slope = look(series, rise)
            if slope is not None and not _dies_away(series, rise, rises[:index]):
                return Leak(slope, times[rise.start])
    return None


def events(times: Sequence[float], counts: Sequence[float], least: float) -> Leak | None:
    """The rate in the last 20 min of what is counted since the start: at least ``least``, not at once, and going on.

    The interval is that of a Poisson process.
    """
    times, counts = times[-_EVENTS_WITHIN:], counts[-_EVENTS_WITHIN:]
    came = counts[-1] - counts[0]
    steps = sum(after > before for before, after in itertools.pairwise(counts))
    if len(counts) < ENOUGH or came < least or steps < _EVENT_STEPS or counts[-1] == counts[-_STOPPED_AFTER:][0]:
        return None
    minutes = times[-1] - times[0]
    rate, reach = came / minutes, NORMAL_95 * math.sqrt(came) / minutes
    return Leak(Slope(rate, rate - reach, rate + reach), times[0])


class _Rise(NamedTuple):
    """How the level that stays rises over the thirds of a window."""

    start: int
    base: float
    thirds: tuple[float, float, float]

    @property
    def total(self) -> float:
        return sum(self.thirds)

    @property
    def is_steady(self) -> bool:
        first, middle, _ = self.thirds
        return min(first, middle) >= _EACH_THIRD * self.total > 0 and not self.is_slow_at_the_end

    @property
    def is_slow_at_the_end(self) -> bool:
        return self.thirds[2] < _LAST_THIRD * self.total / 3


class _Series:
    """Times and values, and for each sample the lowest value from there on: the level that stays."""

    def __init__(self, times: Sequence[float], values: Sequence[float], floor: Floor, interval: float) -> None:
        self.times = times
        self.values = values
        self.floor = floor
        self.interval = interval
        self.lowest = list(values)
        for i in range(len(values) - 2, -1, -1):
            self.lowest[i] = min(self.lowest[i], self.lowest[i + 1])

    def rise(self, start: int, last: int | None = None) -> _Rise:
        """Of the window from ``start`` to ``last``: by default a 20th, at least three samples, before the end.

        There ``lowest`` is that of several samples: one high sample at the end is no level.
        """
        times = self.times
        if last is None:
            last = min(len(times) - 3, bisect_left(times, times[-1] - (times[-1] - times[start]) / 20))
        length = times[last] - times[start]
        at = (start, *(bisect_left(times, times[start] + length * third / 3) for third in (1, 2)), last)
        a, b, c, d = (self.lowest[i] for i in at)
        return _Rise(start, a, (b - a, c - b, d - c))

    def is_above_floor(self, rise: _Rise) -> bool:
        return rise.total >= self.floor(rise.base)

    def slope(self, start: int, part: slice) -> float:
        """Of some thirds of the window from ``start``, by least squares, which sees a single step, too."""
        begin, length = self.times[start], (self.times[-1] - self.times[start]) / 3
        left = min(bisect_left(self.times, begin + length * part.start), len(self.times) - 4)
        right = max(bisect_right(self.times, begin + length * part.stop), left + 4)
        x, y = self.times[left:right], self.values[left:right]
        mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
        return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)


def _grows(series: _Series, rise: _Rise) -> Slope | None:
    """The window's slope, when it grows steadily and to the end."""
    if not rise.is_steady or not series.is_above_floor(rise):
        return None
    times, values = series.times[rise.start :], series.values[rise.start :]
    if series.slope(rise.start, _LAST) < _LAST_THIRD * rise.total / (times[-1] - times[0]):
        return None
    slope = sen(times, values)
    if slope.low <= 0 or _has_stopped(series, rise.start, slope.per_minute):
        return None
    return slope if _drifts(times, values) and not _is_tooth(series, _FALL * rise.total) else None


def _drifts(times: Sequence[float], values: Sequence[float]) -> bool:
    """True when the steps between the means of 12ths have a mean above their noise: those of a walk have none."""
    at = [bisect_left(times, times[0] + (times[-1] - times[0]) * part / _PARTS) for part in range(_PARTS)]
    means = [statistics.fmean(values[i:j]) for i, j in zip(at, [*at[1:], len(values)], strict=True) if i < j]
    steps = [after - before for before, after in itertools.pairwise(means)]
    return statistics.fmean(steps) * math.sqrt(len(steps)) >= _DRIFT * statistics.stdev(steps)


def _troughs_rise(series: _Series, rise: _Rise) -> Slope | None:
    """The slope of the troughs of a sawtooth, when they rise."""
    values, start = series.values, rise.start
    if series.lowest[-3] - rise.base < series.floor(rise.base):
        return None
    fall = _TROUGH_FALL * (max(values[start:]) - rise.base)
    ends = [tooth.end for tooth in _teeth(values, fall)[0]]
    first = bisect_left(ends, start)
    if len(ends) - first < _TROUGHS:
        return None
    troughs = _Series([series.times[i] for i in ends], [values[i] for i in ends], series.floor, series.interval)
    rise = troughs.rise(first, len(ends) - 1)
    if not rise.is_steady or not troughs.is_above_floor(rise) or _is_tooth(troughs, _FALL * rise.total):
        return None
    slope = sen(troughs.times[first:], troughs.values[first:])
    return slope if slope.low > 0 else None


def _has_stopped(series: _Series, start: int, per_minute: float) -> bool:
    """True when the end of a long window is flat where growth would show."""
    times, values = series.times[start:], series.values[start:]
    if len(times) < 2 * _STOPPED_AFTER:
        return False  # the last third tells
    distances = [value - per_minute * time for time, value in zip(times, values, strict=True)]
    middle = statistics.median(distances)
    usual = statistics.median(abs(distance - middle) for distance in distances)
    times, values = times[-_STOPPED_AFTER:], values[-_STOPPED_AFTER:]
    if per_minute * (times[-1] - times[0]) < _STOPPED_ABOVE * usual:
        return False
    return sen(times, values).high < _STOPPED_BELOW * per_minute


def _dies_away(series: _Series, rise: _Rise, longer: Sequence[_Rise]) -> bool:
    """True when longer windows show this growth to be the end of a faster one: a warm-up, a cache near its bound."""
    if not any(_slows_down(series, other) for other in longer):
        return False
    begin, length = series.times[rise.start], series.times[-1] - series.times[rise.start]
    before = bisect_left(series.times, begin - length)
    rate_before = (rise.base - series.lowest[before]) / (begin - series.times[before])
    return rise.total / length < _SPEEDING_UP * rate_before


def _slows_down(series: _Series, rise: _Rise) -> bool:
    if not rise.is_slow_at_the_end or not series.is_above_floor(rise):
        return False
    return series.slope(rise.start, _LAST) < _SLOWING * series.slope(rise.start, _MIDDLE)


class _Tooth(NamedTuple):
    """A climb and the fall after it, by index."""

    start: int
    peak: int
    end: int


def _teeth(values: Sequence[float], fall: float) -> tuple[list[_Tooth], int]:
    """Every climb that ended in a fall of at least ``fall``, and the sample from which it climbs now."""
    teeth: list[_Tooth] = []
    start = peak = low = 0
    falling = False
    for i, value in enumerate(values):
        if falling:
            if value <= values[low]:
                low = i
            elif value - values[low] >= fall:
                teeth.append(_Tooth(start, peak, low))
                start, peak, falling = low, i, False
        elif value > values[peak]:
            peak = i
        elif values[peak] - value >= fall:
            low, falling = i, True
    if falling:
        teeth.append(_Tooth(start, peak, low))
        start = low
    return teeth, start


def _is_tooth(series: _Series, fall: float) -> bool:
    """True when it climbs now as it has climbed, and fallen, before."""
    times, values = series.times, series.values
    teeth, start = _teeth(values, fall)
    if not teeth:
        return False
    peak = max(range(start, len(values)), key=values.__getitem__)
    if values[peak] - values[start] >= _UNLIKE * max(values[tooth.peak] - values[tooth.end] for tooth in teeth):
        return False
    lasted = []
    for tooth in teeth:
        middle = (values[tooth.peak] + values[tooth.end]) / 2
        fell = next(i for i in range(tooth.peak, tooth.end + 1) if values[i] <= middle)
        lasted.append(times[fell] - times[_foot(values, tooth.start, tooth.peak)])
    first = teeth[0]
    seen, whole = values[first.peak] - values[first.start], values[first.peak] - values[first.end]
    if seen < whole:  # it began before the first sample
        unseen = _UNSEEN * series.interval
        lasted[0] = max(lasted[0], min(lasted[0] * whole / seen, unseen) if seen > 0 else unseen)
    return times[-1] - times[_foot(values, start, peak)] < _UNLIKE * max(lasted)


def _foot(values: Sequence[float], low: int, peak: int) -> int:
    """Where the climb from ``low`` to ``peak`` begins: the flat part before it is none of it."""
    near = values[low] + _NEAR * (values[peak] - values[low])
    return max(i for i in range(low, peak + 1) if values[i] <= near)

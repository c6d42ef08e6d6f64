"""Slopes, and which generated series are leaks: what grows for good, and what only looks like it."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otelstream import trend
from otelstream.slope import sen

MIB = 1024 * 1024
INTERVAL = 1 / 6  # min


def bytes_floor(start: float) -> float:
    return max(8 * MIB, 0.05 * start)


def streams_floor(start: float) -> float:
    return max(8, 4 * math.sqrt(max(start, 0)))


def messages_floor(start: float) -> float:
    return max(20, 0.2 * start, streams_floor(start))


Shape = Callable[[random.Random, int], list[float]]
"""n values, from 0 to about 1."""


def history(values: Sequence[float]) -> tuple[list[float], list[float]]:
    """Times and values as ``history.History`` keeps them: of those before the last 120, every sixth."""
    old = max(0, len(values) - 120)
    kept = [*range(0, old, 6), *range(old, len(values))][-480:]
    return [i * INTERVAL for i in kept], [values[i] for i in kept]


def found(values: Sequence[float], floor: trend.Floor = streams_floor) -> trend.Leak | None:
    return trend.leak(*history(values), floor, INTERVAL)


def noisy(values: Sequence[float], sigma: float, seed: int = 0) -> list[float]:
    source = random.Random(seed)
    return [value + source.gauss(0, sigma) for value in values]


# Slopes


def test_the_slope_of_a_line_is_exact_and_certain() -> None:
    assert sen([0.0, 1, 2, 4, 8, 9], [5.0, 7, 9, 13, 21, 23]) == (2, 2, 2)


def test_the_slope_is_the_median_of_all_pairs() -> None:
    # Pairs: 1, 2, 2, 3, 2.5, 2; sorted 1, 2, 2, 2, 2.5, 3.
    assert sen([0.0, 1, 2, 3], [0.0, 1, 4, 6]).per_minute == 2


def test_a_quarter_of_outliers_changes_little() -> None:
    values = [float(i) if i % 4 else 1e9 for i in range(40)]
    assert sen(list(range(40)), values).per_minute == pytest.approx(1, abs=0.2)


def test_two_points_are_no_certainty_and_one_is_no_slope() -> None:
    assert sen([0.0, 1], [0.0, 3]) == (3, -math.inf, math.inf)
    assert sen([0.0], [5.0]) == (0, -math.inf, math.inf)


def test_ties_are_allowed_for() -> None:
    # Kendall's variance of 12 points is 212.7, less 3 times 8.7 for four of the same value: 1.96 * sqrt(186.7) = 26.8.
    times, values = [float(i) for i in range(12)], [float(i // 4) for i in range(12)]
    slopes = sorted((values[j] - values[i]) / (j - i) for i in range(12) for j in range(i + 1, 12))
    slope = sen(times, values)
    assert (slope.low, slope.high) == pytest.approx((slopes[18], slopes[47]))


def test_the_interval_holds_the_slope_in_95_of_100_cases() -> None:
    times = [float(i) for i in range(30)]
    slopes = [sen(times, noisy([0.5 * time for time in times], 3, seed)) for seed in range(300)]
    assert 0.92 <= sum(slope.low <= 0.5 <= slope.high for slope in slopes) / 300 <= 0.98
    assert all(slope.plus_minus == (slope.high - slope.low) / 2 for slope in slopes)


def test_many_points_are_thinned_evenly_and_the_newest_is_kept() -> None:
    values = [0.0] * 500 + [float(i) for i in range(500)]
    slope = sen([float(i) for i in range(1000)], values)
    assert slope.per_minute == pytest.approx(0.5, abs=0.1)


# Floors


@pytest.mark.parametrize(("rise", "leaks"), [(7.0, False), (12.0, True)])
def test_a_rise_below_the_floor_is_no_leak(rise: float, leaks: bool) -> None:
    assert (found([rise * i / 99 for i in range(100)]) is not None) is leaks


# One series each, by name


def test_fewer_than_fifteen_samples_tell_nothing() -> None:
    assert found([100.0 * i for i in range(14)]) is None
    assert found([100.0 * i for i in range(15)]) is not None


def test_growth_must_have_been_there_three_samples_ago_too() -> None:
    late = [*[0.0] * 20, *(10.0 * i for i in range(1, 60))]
    first = next(
        count for count in range(15, len(late)) if trend._leak(*history(late[:count]), streams_floor, INTERVAL)
    )
    assert found(late[: first + 2]) is None
    assert found(late[: first + 3]) is not None


def test_a_leak_has_its_slope_and_the_start_of_its_window() -> None:
    leak = found([50 + 2.0 * i for i in range(100)])
    assert leak is not None
    assert leak.slope.per_minute == pytest.approx(12)
    assert leak.since == 0


def test_a_leak_that_began_three_minutes_ago_is_found_after_an_hour_without() -> None:
    leak = found(noisy([100.0] * 360 + [100 + 5.0 * i for i in range(18)], 0.5))
    assert leak is not None
    assert leak.slope.per_minute == pytest.approx(30, rel=0.1)
    assert leak.since > 53


def test_a_leak_that_began_after_a_warm_up_and_a_quiet_time_is_found() -> None:
    warm = [min(i, 60) * 5.0 for i in range(240)]
    assert found(noisy(warm, 1)) is None
    assert found(noisy([*warm, *(300 + 3.0 * i for i in range(60))], 1)) is not None


def test_a_leak_slower_than_the_rise_before_it_is_found_when_it_was_flat_between() -> None:
    before = [*[100.0] * 20, *(100 + 20.0 * i for i in range(40)), *[900.0] * 40]
    assert found([*before, *(900 + 5.0 * i for i in range(40))]) is not None


def test_a_leak_behind_a_steep_start_is_found() -> None:
    assert found(noisy([min(i, 20) * 10 + 1.0 * i for i in range(240)], 1)) is not None


def test_a_warm_up_long_ago_is_none() -> None:
    assert found(noisy([min(i, 60) * 10.0 for i in range(420)], 2)) is None


def test_a_leak_outlasts_a_pause_of_a_minute_and_not_an_end_of_ten() -> None:
    grown = [2.0 * i for i in range(120)]
    assert found([*grown, *[240.0] * 6]) is not None
    assert found([*grown, *[240.0] * 60]) is None


def test_a_long_leak_that_stopped_five_minutes_ago_is_over_although_its_last_third_still_shows_it() -> None:
    grown = [2.0 * i for i in range(600)]
    assert found([*grown, *[1200.0] * 20]) is not None
    assert found([*grown, *[1200.0] * 40]) is None


def test_stairs_are_as_flat_at_their_end_and_go_on() -> None:
    stairs = [200.0 * (i // 60) for i in range(600)]
    assert found([*stairs, *[2000.0] * 40]) is not None


def test_the_first_climb_of_a_sawtooth_can_not_be_told_and_the_second_can() -> None:
    tooth = [3.0 * i for i in range(50)]
    assert found(tooth) is not None
    assert found([*tooth, *tooth]) is None


def test_a_climb_far_above_every_tooth_is_a_leak() -> None:
    teeth = [3.0 * (i % 30) for i in range(150)]
    assert found([*teeth, *(3.0 * i for i in range(60))]) is not None


def test_a_climb_far_longer_than_a_burst_is_a_leak() -> None:
    burst = [0.0, *[5.0] * 30, *[100.0] * 6, 0.0, *[5.0] * 30]
    assert found([*burst, *(5 + 2.0 * i for i in range(20))]) is not None


def test_a_tooth_whose_beginning_was_not_seen_counts_whole() -> None:
    tooth = [2.0 * i for i in range(100)]
    assert found([*tooth[70:], *tooth[:90]]) is None


def test_a_fall_from_a_height_whose_climb_was_not_seen_makes_careful_for_long() -> None:
    flat_then_fall = [300.0] * 5
    assert found([*flat_then_fall, *(2.0 * i for i in range(100))]) is None
    assert found([*flat_then_fall, *(2.0 * i for i in range(260))]) is not None


def test_slow_troughs_below_a_high_sawtooth_are_a_leak() -> None:
    assert found(noisy([10.0 * (i % 20) for i in range(240)], 1)) is None
    assert found(noisy([10.0 * (i % 20) + 0.4 * i for i in range(240)], 1)) is not None


def test_a_second_rise_of_troughs_that_fell_before_is_none() -> None:
    base = [0.8 * (i % 150) for i in range(290)]
    assert found([10.0 * (i % 14) + base[i] for i in range(290)]) is None


def test_a_random_walk_needs_more_than_its_own_luck() -> None:
    alarms = 0
    for seed in range(200):
        source, walk = random.Random(seed), [0.0]
        for _ in range(119):
            walk.append(walk[-1] + source.gauss(0, 3))
        alarms += found(walk) is not None
    assert alarms <= 24


# Many series


def quiet(source: random.Random, n: int) -> list[float]:
    return [0.0] * n


def wander(source: random.Random, n: int) -> list[float]:
    """Noise with a memory of up to 8 min, around a level."""
    keep, value, values = math.exp(-1 / source.uniform(2, min(48, n / 8))), 0.0, []
    for _ in range(n):
        value = keep * value + math.sqrt(1 - keep * keep) * source.gauss(0, 0.15)
        values.append(value)
    return values


def sawtooth(source: random.Random, n: int) -> list[float]:
    """At any phase; teeth differ in height and length."""
    mean, ragged = source.uniform(4, n / 2.5), source.choice([0, 0.1, 0.25])
    at, height, length, values = source.random(), 1.0, mean, []
    for _ in range(n):
        at += 1 / length
        if at >= 1:
            at -= 1
            height = max(0.3, 1 + source.gauss(0, ragged))
            length = max(3.0, mean * (1 + source.gauss(0, ragged)))
        values.append(height * at)
    return values


def steps_to_a_plateau(source: random.Random, n: int) -> list[float]:
    steps = [source.uniform(0, 0.6) * n for _ in range(source.randint(1, 4))]
    return [sum(i >= step for step in steps) / len(steps) for i in range(n)]


def linear_warm_up(source: random.Random, n: int) -> list[float]:
    end = source.uniform(0.05, 0.7) * n
    return [min(1.0, i / end) for i in range(n)]


def warm_up_that_decays(source: random.Random, n: int) -> list[float]:
    scale = n / source.uniform(4, 30)
    return [1 - math.exp(-i / scale) for i in range(n)]


def logarithm(source: random.Random, n: int) -> list[float]:
    scale = n / source.uniform(30, 300)
    return [math.log(1 + i / scale) / math.log(1 + n / scale) for i in range(n)]


def bounded_cache(source: random.Random, n: int) -> list[float]:
    full = source.uniform(0.05, 0.6) * n
    return [min(1.0, i / full) - 0.02 * source.random() for i in range(n)]


def burst(source: random.Random, n: int) -> list[float]:
    start, length, rest = source.uniform(0.1, 0.6) * n, source.uniform(1, 0.2 * n), source.choice([0.0, 0.3, 0.6])
    return [0.0 if i < start else 1.0 if i < start + length else rest for i in range(n)]


def line(source: random.Random, n: int) -> list[float]:
    return [i / n for i in range(n)]


def stairs(source: random.Random, n: int) -> list[float]:
    steps = source.randint(6, 30)
    return [(steps * i // n) / steps for i in range(n)]


def at_random_times(source: random.Random, n: int) -> list[float]:
    events = [source.random() * n for _ in range(source.randint(20, 200))]
    return [sum(event <= i for event in events) / len(events) for i in range(n)]


def sawtooth_on_a_slope(source: random.Random, n: int) -> list[float]:
    length, height, phase = source.uniform(4, n / 8), source.uniform(0.1, 1), source.random()
    return [i / n + height * ((i / length + phase) % 1) for i in range(n)]


def late(source: random.Random, n: int) -> list[float]:
    length = max(24, int(source.uniform(0.05, 0.5) * n))
    return [max(0.0, (i - n + length) / length) for i in range(n)]


def after_a_warm_up(source: random.Random, n: int) -> list[float]:
    end, height = source.uniform(0.02, 0.2) * n, source.uniform(0.2, 1)
    return [min(1.0, i / end) * height + i / n for i in range(n)]


def with_the_load(source: random.Random, n: int) -> list[float]:
    period, total, values = source.uniform(20, n / 2 + 21), 0.0, []
    for i in range(n):
        total += 1 + 0.6 * math.sin(math.tau * i / period)
        values.append(total)
    return [value / total for value in values]


def resident_memory(source: random.Random, shape: list[float]) -> tuple[list[float], trend.Floor]:
    base, sigma = source.uniform(50, 400) * MIB, source.choice([0.1, 1, 2]) * MIB
    height = max(0.4 * base, source.uniform(30, 400) * MIB)
    return [base + height * value + source.gauss(0, sigma) for value in shape], bytes_floor


def kept_messages(source: random.Random, shape: list[float]) -> tuple[list[float], trend.Floor]:
    """An estimate that is up to 10 % off, for minutes on end."""
    base, values, error = source.choice([0, 50, 1000]), [], source.gauss(0, 1)
    height, sigma = max(100, 2 * base) * source.choice([1, 5, 50]), source.choice([0, 0.02, 0.05])
    for value in shape:
        error = 0.9 * error + math.sqrt(0.19) * source.gauss(0, 1)
        values.append(max(0.0, (base + height * value) * (1 + sigma * error)))
    return values, messages_floor


def open_streams(source: random.Random, shape: list[float]) -> tuple[list[float], trend.Floor]:
    base = source.choice([0, 5, 50, 400])
    height = max(30, 12 * math.sqrt(base) + 0.3 * base) * source.choice([1, 3, 20])
    return [float(max(0, round(base + height * value))) for value in shape], streams_floor


MEASURES = [resident_memory, kept_messages, open_streams]
HEALTHY: list[Shape] = [
    quiet,
    wander,
    sawtooth,
    steps_to_a_plateau,
    linear_warm_up,
    warm_up_that_decays,
    logarithm,
    bounded_cache,
    burst,
]
LEAKS: list[Shape] = [line, stairs, at_random_times, sawtooth_on_a_slope, late, after_a_warm_up, with_the_load]
SERIES = 20
"""Of each shape and measure. Of 200 others of each, 38 of 5,400 healthy ones were false alarms, 29 of them logarithms,
which do grow for ever, and 36 of 4,200 leaks were missed."""


def leaks(shape: Shape, seed: int) -> list[bool]:
    """Of each measure, whether a series of this shape, of 5 min to 6 h, is taken for a leak."""
    results = []
    for measure in MEASURES:
        source = random.Random(f"{shape.__name__} {measure.__name__} {seed}")
        values, floor = measure(source, shape(source, int(math.exp(source.uniform(math.log(30), math.log(2200))))))
        results.append(found(values, floor) is not None)
    return results


@pytest.mark.parametrize("shape", HEALTHY)
def test_healthy_series_are_no_leaks(shape: Shape) -> None:
    assert sum(sum(leaks(shape, seed)) for seed in range(SERIES)) <= 0.05 * SERIES * len(MEASURES)


@pytest.mark.parametrize("shape", LEAKS)
def test_leaks_are_found(shape: Shape) -> None:
    assert sum(sum(leaks(shape, seed)) for seed in range(SERIES)) >= 0.92 * SERIES * len(MEASURES)


@settings(deadline=None, max_examples=50)
@given(st.integers(4, 60), st.floats(0, 1), st.floats(20, 1e9), st.integers(0, 1000))
def test_no_sawtooth_is_a_leak_once_it_fell_back_at_whatever_phase(
    period: int, phase: float, height: float, seed: int
) -> None:
    assert (
        found(noisy([height * ((i / period + phase) % 1) for i in range(3 * period + 12)], height / 100, seed)) is None
    )


@settings(deadline=None, max_examples=50)
@given(st.integers(15, 1000), st.floats(10, 1e9), st.floats(0, 0.03), st.integers(0, 1000))
def test_every_steady_rise_is_a_leak(n: int, rise: float, noise: float, seed: int) -> None:
    leak = found(noisy([1.5 * rise * i / n for i in range(n)], noise * rise, seed))
    assert leak is not None
    assert leak.slope.per_minute == pytest.approx(1.5 * rise / n / INTERVAL, rel=0.25)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0, 1e12), max_size=300))
def test_anything_can_be_asked_of(values: list[float]) -> None:
    leak = found(values)
    assert leak is None or (leak.slope.low > 0 and math.isfinite(leak.slope.plus_minus))


# Events


def test_events_that_go_on_have_the_rate_of_the_last_twenty_minutes() -> None:
    counts = [float(i // 4) for i in range(160)]
    leak = trend.events([i * INTERVAL for i in range(160)], counts, 5)
    assert leak is not None
    assert leak.slope.per_minute == pytest.approx(1.5, rel=0.05)
    assert leak.since == pytest.approx(40 * INTERVAL)
    assert leak.slope.low == pytest.approx(1.5 - 1.96 * math.sqrt(29) / (119 * INTERVAL), rel=0.05)


@pytest.mark.parametrize(
    "counts",
    [
        [0.0] * 60 + [50.0] * 20,  # at once
        [float(min(i, 20)) for i in range(60)],  # over for 40 samples
        [float(i // 15) for i in range(60)],  # 3 of them
        [float(i) for i in range(11)],  # too early
    ],
)
def test_events_that_are_none(counts: list[float]) -> None:
    assert trend.events([i * INTERVAL for i in range(len(counts))], counts, 5) is None

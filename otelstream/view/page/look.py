"""What one viewer of the page looks at, and what the capture says of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from otelstream.view.model import (
    Choice,
    Lane,
    Memory,
    MethodRow,
    Overview,
    Process,
    StreamPage,
    StreamRow,
    TimeRange,
    Verdict,
)
from otelstream.view.store.reader import Reader

RANGES = {"5 min": 300.0, "15 min": 900.0, "1 h": 3600.0, "6 h": 21600.0, "24 h": 86400.0, "all": None}
"""s to look back, by what the page calls it."""
DEFAULT_RANGE = "15 min"
STREAMS, MEMORY = "streams", "memory"
_LEAST_RANGE_S = 10.0
_MOST_MEMORIES = 8
"""Processes whose memory is drawn at once."""


@dataclass(slots=True)
class Asked:
    """The state of one page."""

    choice: Choice = field(default_factory=Choice)
    range: str = DEFAULT_RANGE
    until: float | None = None
    """Where the time axis ends, s since the Unix epoch; None while it follows the clock."""
    zoom: TimeRange | None = None
    """What of the axis is zoomed in on."""
    sort: str = "age"
    descending: bool = True
    page: int = 1
    rows: int = 20
    tab: str = STREAMS
    """What is below the picture: ``STREAMS`` or ``MEMORY``."""
    growth: bool = False
    """Of the memory: what grew in the range that is shown, not what is in use at its end."""
    stream: StreamRow | None = None
    """Whose memory only."""


@dataclass(frozen=True, slots=True)
class Look:
    """All that one repaint shows."""

    overview: Overview
    range: TimeRange
    shown: TimeRange
    memory: Sequence[Memory]
    lanes: Sequence[Lane]
    methods: Sequence[MethodRow]
    streams: StreamPage
    verdict: Verdict


def look(reader: Reader, asked: Asked, *, lanes: int = 40, bars: int = 400) -> Look:
    """Read everything once."""
    overview = reader.overview()
    whole = axis(reader, overview, asked.range, asked.until)
    shown = _within(asked.zoom, whole) if asked.zoom is not None else whole
    verdict = reader.verdict(asked.choice, whole)
    processes = drawn(overview, asked.choice, {finding.process for finding in verdict.findings})
    return Look(
        overview=overview,
        range=whole,
        shown=shown,
        memory=reader.memory([process.id for process in processes], _around(shown, whole)),
        lanes=reader.lanes(asked.choice, shown, lanes=lanes, bars=bars),
        methods=reader.methods(asked.choice, shown),
        streams=reader.streams(
            asked.choice,
            shown,
            sort=asked.sort,
            descending=asked.descending,
            offset=(asked.page - 1) * asked.rows,
            limit=asked.rows,
        ),
        verdict=verdict,
    )


def axis(reader: Reader, overview: Overview, name: str, until: float | None = None) -> TimeRange:
    """From as far back as ``name`` says, but not from before the first record, to ``until``, or to now."""
    end = reader.now() if until is None else until
    back = RANGES[name]
    first = overview.first if overview.first is not None else end
    start = first if back is None else max(first, end - back)
    return TimeRange(min(start, end - _LEAST_RANGE_S), end)


def drawn(overview: Overview, choice: Choice, leaking: Collection[int]) -> list[Process]:
    """The processes whose memory is drawn: the first as they are ``ranked``.

    They stay, and in the same order, while no other comes.
    """
    return sorted(ranked(overview, choice, leaking)[:_MOST_MEMORIES], key=lambda each: each.id)


def ranked(overview: Overview, choice: Choice, leaking: Collection[int]) -> list[Process]:
    """The processes of the choice: those that are ``leaking``, by id, then those that are there, the newest first."""
    found = [
        process
        for process in overview.processes
        if choice.service in (None, process.service) and choice.process in (None, process.id)
    ]
    return sorted(found, key=lambda each: (each.id not in leaking, each.is_silent, -each.first, each.id))


def _within(zoom: TimeRange, whole: TimeRange) -> TimeRange:
    start = min(max(zoom.start, whole.start), whole.end)
    return TimeRange(start, max(min(zoom.end, whole.end), start))


def _around(shown: TimeRange, whole: TimeRange) -> TimeRange:
    """With a margin, so that what is dragged into the picture is there already."""
    margin = shown.end - shown.start
    return TimeRange(max(shown.start - margin, whole.start), min(shown.end + margin, whole.end))

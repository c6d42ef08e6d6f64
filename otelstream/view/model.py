"""What the page, the exports and ``otelstream top`` show: values read from a capture, nothing of SQL or of a chart.

Times are s since the Unix epoch, durations s, sizes By.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class TimeRange:
    """What is looked at."""

    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Choice:
    """Whose streams are looked at, and which of them. Every field that is set must hold."""

    service: str | None = None
    process: int | None = None
    method: str | None = None
    """The whole name."""
    side: str | None = None
    state: str | None = None
    """``open``, ``silent`` or ``ended``."""
    outcome: str | None = None
    text: str = ""
    """Part of the method, peer, state, outcome or code, or the beginning of the trace id; case does not matter."""
    min_age: float = 0.0
    """s: from the start to the end, or to now."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process that has sent something."""

    id: int
    service: str
    instance: str
    """Empty where its resource does not tell."""
    first: float
    last: float
    is_silent: bool
    """Nothing has come for much longer than it used to take: it has ended, or cannot export."""
    attributes: Mapping[str, Any]

    @property
    def label(self) -> str:
        """Service, and enough of the instance to tell two apart."""
        return f"{self.service} · {self.instance[:8]}" if self.instance else self.service


@dataclass(frozen=True, slots=True)
class Dropped:
    """Records that are not in the capture."""

    reason: str
    """A few words for people."""
    count: int
    last: float
    example: str
    is_fault: bool


@dataclass(frozen=True, slots=True)
class Overview:
    """What a capture holds."""

    processes: Sequence[Process]
    first: float | None
    """First profile, point of a metric, end of a window or stream, else earliest time: what was open began before."""
    last: float | None
    """Newest time of anything. Both are None when it is empty."""
    streams: int
    windows: int
    size: int
    """By in use in the file."""
    dropped: Sequence[Dropped]


@dataclass(frozen=True, slots=True)
class Track:
    """One line of a chart."""

    name: str
    points: Sequence[tuple[float, float]]
    """Time and value, times rising."""


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory of one process over a time range, at most some hundred points each."""

    process: Process
    resident: Track
    """process.memory.usage; of stock runtimes their own measure. May have no points."""
    kinds: Sequence[Track]
    """otelstream.memory.usage by kind, in the order to stack: python, protobuf, native, allocator_free, other."""
    limit: Track
    """container.memory.available + .working_set, else + .usage: no points without a limit."""


@dataclass(frozen=True, slots=True)
class Shade:
    """A part of a bar: one window of a stream, or one step of time of an aggregated lane."""

    start: float
    end: float
    messages: float
    """Per s, both directions. In an aggregated lane of all its streams."""
    open: int = 1
    """Streams open: most at any time in an aggregated lane's step."""
    memory_delta: int | None = None
    retained: int | None = None


@dataclass(frozen=True, slots=True)
class Bar:
    """A stream on the time axis."""

    stream: int
    trace_id: str
    start: float
    end: float
    """Now (or the end of the capture) while it is open, its last sign when silent; never before ``start``."""
    state: str
    outcome: str
    """Empty unless ended."""
    peer: str
    messages: int
    memory_delta: int | None
    """By: what the process's memory did over its windows within the range."""
    retained: int | None
    shades: Sequence[Shade] = ()


@dataclass(frozen=True, slots=True)
class Lane:
    """One row of the chart of streams: bars that do not overlap, or all streams of a method aggregated."""

    method: str
    """``7 more methods`` of the last lane, where there are more methods than lanes; its side is empty."""
    side: str
    bars: Sequence[Bar] = ()
    steps: Sequence[Shade] = ()
    """Of an aggregated lane, which has no bars."""
    streams: int = 0
    """How many streams it stands for."""


@dataclass(frozen=True, slots=True)
class MethodRow:
    """A row of the table of methods: one method and side, over a time range."""

    method: str
    side: str
    open: int
    """Streams, at the end of the range: as spans show, or metrics tell if that is more. Silent ones are not open."""
    oldest: float | None
    """s: age of the oldest open stream; by the metric where spans show none."""
    idle: float | None
    """s since the last message of the most idle open stream: by the newest metric, else as of its newest window."""
    messages_per_s: float
    bytes_per_s: float
    outcomes: Mapping[str, int]
    """Of streams that ended in the range."""
    retained: int | None
    retained_size: int | None
    """By."""
    share: float | None
    """Part of the growth of the process in the range that its retained messages are; None when it does not grow."""


@dataclass(frozen=True, slots=True)
class StreamRow:
    """A row of the table of streams."""

    id: int
    service: str
    process: int
    method: str
    side: str
    type: str
    state: str
    """``open``, ``silent`` (open, but no sign of it for too long) or ``ended``."""
    outcome: str
    code: str
    peer: str
    start: float
    end: float | None
    age: float
    """s: to the end, or to now."""
    idle: float | None
    """s without a message, as of its newest window: nothing is known since. None once ended."""
    sent: int
    received: int
    sent_bytes: int
    received_bytes: int
    messages_per_s: float
    """In its newest window; of a whole stream that has ended."""
    bytes_per_s: float
    retained: int | None
    trace_id: str
    """Hex."""
    span_id: str


@dataclass(frozen=True, slots=True)
class StreamPage:
    """Part of a table of streams."""

    rows: Sequence[StreamRow]
    total: int
    """How many there are in all."""


@dataclass(frozen=True, slots=True)
class Event:
    """A message, or another event of a span."""

    time: float
    name: str
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class WindowRow:
    """An interval of an open stream; the newest part of one that has ended has number 0."""

    number: int
    start: float
    end: float
    sent: int
    received: int
    sent_bytes: int
    received_bytes: int
    idle: float
    memory: int | None
    memory_delta: int | None
    retained: int | None
    events: Sequence[Event] = ()
    unlisted: int = 0
    """Messages that have no event."""


@dataclass(frozen=True, slots=True)
class FindingRow:
    """A leak that a service has told of."""

    process: int
    service: str
    kind: str
    method: str
    side: str
    severity: str
    holder: str
    growth: float | None
    """Per minute."""
    unit: str
    evidence: str
    advice: str
    first: float
    last: float
    is_current: bool
    """Told within the last 10 min, by a process that is still there."""


@dataclass(frozen=True, slots=True)
class StreamDetail:
    """Everything about one stream."""

    row: StreamRow
    attributes: Mapping[str, Any]
    """Of the stream span, else of its newest window."""
    resource: Mapping[str, Any]
    windows: Sequence[WindowRow]
    """The newest first; some hundred at most."""
    windows_total: int
    events: Sequence[Event]
    """Of the stream span: the messages of the last (or only) window, exceptions."""
    deadline: float | None
    traces: Sequence[str]
    """Trace ids, hex: more than one after 500 windows."""
    finding: FindingRow | None = None
    """The leak of its method, if there is one."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The sentence on top."""

    sentence: str
    level: str
    """``leak``, ``calm``, ``early`` (too little is known) or ``empty``."""
    findings: Sequence[FindingRow] = field(default=())
    memory_per_minute: float | None = None
    """By: growth of the resident memory over the range, where it is certain."""
    minutes_to_limit: float | None = None

"""What is taken out of OTLP messages and written to the tables of ``store/schema.py``.

Times are ns since the Unix epoch on the sender's clock, sizes By; the other fields are what the schema says of the
columns of their name. Every value is fit for SQLite: numbers are finite and of 64 bits, strings are UTF-8 without NUL.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from otelstream.view.intake import Reason, Signal


@dataclass(frozen=True, slots=True)
class ProcessRow:
    """Who sent it: an OTLP resource."""

    key: bytes
    service: str
    instance: str
    attributes: str


@dataclass(slots=True)
class StreamRow:
    """What is known of a stream from one of its windows, from its span, or, once merged, from all of them."""

    trace_id: bytes
    span_id: bytes
    method: str
    side: str
    type: str
    peer: str
    start_ns: int
    seen_ns: int
    active_ns: int
    end_ns: int | None = None
    due_ns: int | None = None
    outcome: str | None = None
    code: str = ""
    sent: int = 0
    received: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    deadline: float | None = None
    retained: int | None = None
    windows: int = 0
    span: bytes = b""
    """The stream span itself; empty while only windows are known. It goes to a table of its own."""

    @property
    def key(self) -> tuple[bytes, bytes]:
        """What tells streams apart: trace id and span id of the stream span."""
        return self.trace_id, self.span_id


@dataclass(slots=True)
class WindowRow:
    """An interval span."""

    stream: StreamRow
    """What it tells of its stream, whose ids are those of its parent, or of the stream span that it links to."""
    trace_id: bytes
    """Its own: another one than the stream's where a stream goes on in a new trace."""
    span_id: bytes
    number: int
    start_ns: int
    end_ns: int
    sent: int
    received: int
    sent_bytes: int
    received_bytes: int
    idle: float
    memory: int | None
    delta: int | None
    retained: int | None
    continues: bool
    """It is the first span of a trace in which its stream goes on."""
    span: bytes


@dataclass(slots=True)
class PointRow:
    """A number at a time."""

    name: str
    attributes: str
    is_delta: bool
    """``value`` is what was added since the point before."""
    time_ns: int
    value: float


@dataclass(slots=True)
class FindingRow:
    """A leak as a span tells of it, without evidence, or as a log record does."""

    kind: str
    method: str
    side: str
    time_ns: int
    holder: str
    growth: float | None
    unit: str
    severity: str = ""
    evidence: str = ""
    advice: str = ""


@dataclass(slots=True)
class SnapshotRow:
    """A profile."""

    kind: str
    types: str
    time_ns: int
    duration_ns: int
    unit: str
    total: int
    records: int
    """Of the request: OTLP has one for each type."""
    profile: bytes
    """It goes to a table of its own."""


@dataclass(slots=True)
class Group:
    """What one process sent in a request."""

    process: ProcessRow
    streams: list[StreamRow] = field(default_factory=list)
    windows: list[WindowRow] = field(default_factory=list)
    points: list[PointRow] = field(default_factory=list)
    findings: list[FindingRow] = field(default_factory=list)
    snapshots: list[SnapshotRow] = field(default_factory=list)

    @property
    def records(self) -> int:
        """Rows that answer to a record of the request: a finding of a span is part of it."""
        logged = sum(1 for finding in self.findings if finding.evidence)
        profiled = sum(snapshot.records for snapshot in self.snapshots)
        return len(self.streams) + len(self.windows) + len(self.points) + logged + profiled

    def times(self) -> Iterator[int]:
        """Every time in it, in any order."""
        for stream in self.streams:
            yield from (stream.start_ns, stream.seen_ns)
        for window in self.windows:
            yield from (window.stream.start_ns, window.end_ns)
        yield from (point.time_ns for point in self.points)
        yield from (finding.time_ns for finding in self.findings)
        yield from (snapshot.time_ns for snapshot in self.snapshots)


@dataclass(slots=True)
class Dropped:
    """How many records of a request are not in the store, and why."""

    counts: Counter[Reason] = field(default_factory=Counter)
    examples: dict[Reason, str] = field(default_factory=dict)
    """The name of one of them, at most 100 characters."""

    def add(self, reason: Reason, count: int = 1, example: str = "") -> None:
        """Count ``count`` records."""
        if not count:  # a reason that is named is why something is missing
            return
        self.counts[reason] += count
        if example and reason not in self.examples:
            self.examples[reason] = example[:100]

    def update(self, other: Dropped) -> None:
        """Count what ``other`` has counted."""
        for reason, count in other.counts.items():
            self.add(reason, count, other.examples.get(reason, ""))


@dataclass(slots=True)
class Batch:
    """What was taken out of one request."""

    signal: Signal
    groups: list[Group] = field(default_factory=list)
    dropped: Dropped = field(default_factory=Dropped)

    @property
    def records(self) -> int:
        """How many records of the request are to be kept."""
        return sum(group.records for group in self.groups)

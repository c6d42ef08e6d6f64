"""What a leak report is made of: findings with their evidence in numbers. Values only; ``verdict.py`` makes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import Enum
from typing import Any


class Kind(Enum):
    """What is wrong."""

    MESSAGES_RETAINED = "messages_retained"
    """Messages stay referenced after they were read or sent: a cache, a list, a queue that nobody empties."""
    STREAM_NOT_CLOSED = "stream_not_closed"
    """More and more streams of a method are open."""
    STREAM_ABANDONED = "stream_abandoned"
    """A client drops its streams without finishing or cancelling them."""
    ENDED_STREAM_KEPT = "ended_stream_kept"
    """Streams that have ended stay referenced."""
    ENDLESS_RECEIVE = "endless_receive"
    """A handler goes on after the other side said that it sends no more."""
    PEER_GONE = "peer_gone"
    """A handler goes on after its call has ended: nobody is there to answer."""
    PEER_NOT_READING = "peer_not_reading"
    """The sender waits for a peer that does not read."""
    STREAM_IDLE = "stream_idle"
    """A stream is open on which nothing comes or goes."""
    NO_DEADLINE = "no_deadline"
    """A stream without a deadline is open for long: a lost peer would keep it for ever."""
    TASK_OUTLIVING = "task_outliving"
    """asyncio tasks started inside calls become more: they go on after their call, or pile up while it is open."""
    THREAD_OUTLIVING = "thread_outliving"
    """Threads started inside calls go on after their call has ended, and become more."""
    PYTHON_GROWTH = "python_growth"
    """Python's objects grow, and no method's messages, streams or tasks explain it."""
    PROTOBUF_GROWTH = "protobuf_growth"
    """protobuf's memory grows, and no method's messages explain it: a part that is kept keeps all of its message."""
    NATIVE_GROWTH = "native_growth"
    """Memory outside Python's objects, and protobuf's where it is told apart, grows; nothing counted explains it."""
    MEMORY_GROWTH = "memory_growth"
    """The process grows, nothing that is counted explains it, and its parts can't be told apart here."""
    FRAGMENTATION = "fragmentation"
    """Allocators keep what was freed: resident memory grows though what is in use does not."""


class Severity(Enum):
    """How bad it is."""

    INFO = "info"
    """Worth knowing; no leak."""
    WARNING = "warning"
    """A leak."""
    CRITICAL = "critical"
    """A leak that fills the memory limit within the hour."""


@dataclass(frozen=True, slots=True)
class Growth:
    """A slope and its uncertainty."""

    per_minute: float
    plus_minus: float
    """Half the 95 % interval of ``per_minute``."""
    unit: str
    """UCUM: ``By``, ``{message}``, ``{stream}``, ``{task}``, ``{thread}``."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong."""

    kind: Kind
    severity: Severity
    evidence: str
    """One plain sentence with the numbers."""
    advice: str
    """What to do, one plain sentence."""
    method: str | None = None
    """None where no method can be named."""
    side: str | None = None
    """``server`` or ``client``."""
    growth: Growth | None = None
    """In the unit of what grows; None for what is wrong without growing."""
    memory_growth: Growth | None = None
    """The same growth in By, where it is known."""
    share: float | None = None
    """Part of the process's memory growth that this explains, 0 to 1; None when the process does not grow."""
    holder: str | None = None
    """The name that keeps it alive, or where it was started or waits: with file and line."""

    @property
    def is_leak(self) -> bool:
        """False for what is only worth knowing."""
        return self.severity is not Severity.INFO

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "kind": self.kind.value, "severity": self.severity.value}


@dataclass(frozen=True, slots=True)
class OpenStream:
    """What is known of one open stream (or of a handler that outlives its call) when a verdict is asked for."""

    method: str
    side: str
    """``server`` or ``client``."""
    age: float
    """s."""
    idle: float
    """s since the last message, or since the start."""
    deadline: float | None
    """s, as given when the call started."""
    sent: int
    """Messages."""
    received: int
    where: str | None = None
    """Client: the line that made the call. Server: the line where the handler is now, else the handler."""
    call_ended: float | None = None
    """s since the call ended although its handler still runs; None while the call is open."""
    half_closed: bool = False
    """The other side said that it sends no more, and this side's handler goes on."""
    sending_blocked: bool = False
    """A message was handed to gRPC, which waits for the peer to make room."""


@dataclass(frozen=True, slots=True)
class Outliving:
    """Tasks or threads that were started inside calls of one method, do the same, and go on after their call ended."""

    method: str
    side: str
    is_thread: bool
    name: str
    """The coroutine, or the thread's target; with file and line."""
    waits_at: str | None
    """Function, file and line where it is now."""
    count: int
    oldest: float
    """s since the first of their calls ended."""


@dataclass(frozen=True, slots=True)
class MethodRow:
    """One method in a report."""

    method: str
    side: str
    open: int
    ended: int
    oldest: float
    """s; 0 when none is open."""
    idle: float
    """s of the most idle one; 0 when none is open."""
    messages: int
    retained: float
    """Messages, estimate."""
    retained_error: float
    """Half the 95 % interval of ``retained``."""
    retained_bytes: float
    sampled_every: int
    """One message in this many is followed."""
    tasks: int
    threads: int


@dataclass(frozen=True, slots=True)
class LeakReport:
    """Everything that ``otelstream leaks`` shows. Holds no message content and no reference into the process."""

    time: float
    """s since the Unix epoch."""
    pid: int
    service: str
    """``service.name``, where known, else the program."""
    window: float
    """s that the verdict looks back on."""
    decided: bool
    """False when the process has not been watched for long enough to say that nothing grows."""
    verdict: str
    """One sentence."""
    rss: int | None
    """By."""
    memory_growth: Growth | None
    """Of the resident memory."""
    findings: tuple[Finding, ...]
    """The worst first."""
    methods: tuple[MethodRow, ...]
    outliving: tuple[Outliving, ...]
    notes: tuple[str, ...]
    """What was not reached or can't be told, and why."""

    @property
    def leaking(self) -> bool:
        """True when there is a leak among the findings."""
        return any(finding.is_leak for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the fields by name, and ``leaking``."""
        return {
            **asdict(self),
            "leaking": self.leaking,
            "findings": [finding.to_dict() for finding in self.findings],
        }


def merged(reports: Sequence[LeakReport]) -> LeakReport:
    """One report of several about the same process, each of which watches other calls: at least one.

    What is said of the whole process is taken from the one that has seen the most messages.
    """
    first, *others = sorted(reports, key=lambda report: -sum(row.messages for row in report.methods))
    for other in others:
        of_methods = tuple(finding for finding in other.findings if finding.method is not None)
        first = replace(
            first,
            verdict=first.verdict if first.leaking or not any(map(_is_leak, of_methods)) else other.verdict,
            findings=first.findings + of_methods,
            methods=first.methods + other.methods,
            outliving=first.outliving + other.outliving,
            notes=first.notes + other.notes,
        )
    worst_first = sorted(first.findings, key=lambda finding: list(Severity).index(finding.severity), reverse=True)
    return replace(first, findings=tuple(worst_first), decided=all(report.decided for report in reports))


def _is_leak(finding: Finding) -> bool:
    return finding.is_leak

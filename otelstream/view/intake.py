"""Between the receivers and the store: what is handed over, and what is answered."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol


class Signal(Enum):
    """What an OTLP request carries."""

    TRACES = "traces"
    METRICS = "metrics"
    LOGS = "logs"
    PROFILES = "profiles"

    @property
    def fields(self) -> tuple[str, str, str]:
        """The repeated fields that lead from a request to its records: of resources, scopes, and records."""
        return _FIELDS[self]


_FIELDS = {
    Signal.TRACES: ("resource_spans", "scope_spans", "spans"),
    Signal.METRICS: ("resource_metrics", "scope_metrics", "metrics"),
    Signal.LOGS: ("resource_logs", "scope_logs", "log_records"),
    Signal.PROFILES: ("resource_profiles", "scope_profiles", "profiles"),
}


class Reason(Enum):
    """Why a record is not in the store. The value is what the page says."""

    MALFORMED = "requests that are not OTLP"
    TOO_LARGE = "requests over the size limit"
    REFUSED = "requests refused for lack of a token, or from another origin"
    NO_ID = "spans without a valid trace id or span id"
    BAD_TIME = "records with a time before 2000 or more than a day ahead"
    BAD_PROFILE = "profiles that contradict themselves"
    TOO_MANY_FRAMES = "profiles with more than 1,000,000 frames and labels"
    TOO_MANY_ATTRIBUTES = "records with more than 1000 attributes"
    TOO_MANY_SERIES = "metric points beyond 10,000 series of a process"
    STORE_FULL = "records beyond --max-size, when nothing was left that may leave"
    STORE_FAILED = "records that could not be written, as when the disk is full: their senders were told to retry"
    OTHER_SPANS = "spans of something else than RPCs"
    OTHER_METRICS = "metric points that no chart shows"
    OTHER_LOGS = "log records that are no leak reports"

    @property
    def is_fault(self) -> bool:
        """False for what is well, but not what is looked at here."""
        return self not in (Reason.OTHER_SPANS, Reason.OTHER_METRICS, Reason.OTHER_LOGS)


@dataclass(frozen=True, slots=True)
class Taken:
    """A request whose records are committed, but for those that were rejected."""

    rejected: int = 0
    """Spans, points, log records or profiles: OTLP's partial success."""
    why: str = ""
    """One sentence, empty when nothing was rejected."""


class Busy(Exception):
    """Nothing of the request was kept: the sender is to try again."""

    def __init__(self, why: str, retry_after_s: float = 1.0) -> None:
        super().__init__(why)
        self.why = why
        self.retry_after_s = retry_after_s


class Intake(Protocol):
    """Where the receivers put what they have received. Any thread."""

    def take(self, signal: Signal, request: Any, size: int) -> Future[Taken]:
        """Keep an ``Export…ServiceRequest`` of ``size`` By. The future is done when it is committed, or has ``Busy``.

        Raises ``Busy`` at once when too much waits already. A request that is kept twice counts once.
        """

    def count(self, reason: Reason, count: int = 1, example: str = "") -> None:
        """Count what was not kept. ``example`` tells one, in a few words, without content of a payload."""

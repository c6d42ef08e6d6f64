"""What a run of ``otelstream stress`` came to: a value that can be saved, loaded and compared."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from otelstream.stress.target import StressError

SCHEMA = "otelstream.stress/1"


@dataclass(frozen=True, slots=True)
class Slice:
    """About a second of a run (with ``--count``: a tenth of the calls)."""

    seconds: float
    calls: int
    """That ended in it."""
    messages: int
    """Sent and received."""
    bytes: int
    p50: float | None
    """Of the latencies, s; None when no call ended as it was meant to."""
    p99: float | None


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles of the time a call took, s."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class ScenarioRun:
    """One scenario in one run."""

    scenario: str
    run: int
    """From 1."""
    seconds: float
    calls: int
    messages: int
    """Sent and received."""
    bytes: int
    outcomes: Mapping[str, int]
    latency: Latency | None
    """Of the calls that ended ``ok``, or ``cancelled`` as the scenario means it."""
    slices: tuple[Slice, ...]
    rss_before: int | None = None
    """Resident memory of the service, By; None where it is not known."""
    rss_after: int | None = None

    def rate(self, what: str) -> float:
        """``calls``, ``messages`` or ``bytes`` per second while the load was on."""
        seconds = sum(slice_.seconds for slice_ in self.slices)
        return float(sum(getattr(slice_, what) for slice_ in self.slices) / seconds) if seconds else 0.0

    @property
    def growth(self) -> int | None:
        """Of the resident memory, By."""
        if self.rss_before is None or self.rss_after is None:
            return None
        return self.rss_after - self.rss_before


@dataclass(frozen=True, slots=True)
class State:
    """What the service says of its memory: the part that is used here of its answer at ``/leaks``."""

    rss: int | None
    """By."""
    leaking: bool | None
    """None while that is not known."""
    verdict: str
    """One sentence; why, when it is not known."""
    findings: tuple[Mapping[str, Any], ...] = ()
    """As ``otelstream.findings.Finding.to_dict`` has them."""
    service: str | None = None
    """Name and pid of who answered."""


@dataclass(frozen=True, slots=True)
class Result:
    """Everything. Holds neither requests nor values of metadata."""

    command: str
    target: str
    parameters: Mapping[str, Any]
    """What the load was; results can be compared when they have the same."""
    scenarios: tuple[ScenarioRun, ...]
    state: State
    environment: Mapping[str, Any]
    """Of the client: ``this_environment``."""
    interrupted: bool = False

    def save(self, path: Path) -> None:
        """Write as JSON. Raises ``OSError``."""
        path.write_text(json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Result:
        """Read what ``save`` wrote. Raises ``StressError``."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            schema = values.pop("schema")
            if schema != SCHEMA:
                raise StressError(
                    f"{path} has the schema {schema!r}; this version of otelstream reads {SCHEMA!r}. Run it again."
                )
            values["scenarios"] = tuple(map(_scenario_run, values["scenarios"]))
            values["state"] = State(**{**values["state"], "findings": tuple(values["state"]["findings"])})
            return cls(**values)
        except OSError as error:
            raise StressError(f"{path} cannot be read: {error.strerror}.") from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise StressError(f"{path} is no result of `otelstream stress --json`.") from error


def _scenario_run(values: dict[str, Any]) -> ScenarioRun:
    latency = values["latency"]
    return ScenarioRun(
        **{
            **values,
            "latency": latency and Latency(**latency),
            "slices": tuple(Slice(**slice_) for slice_ in values["slices"]),
        }
    )


def this_environment() -> dict[str, Any]:
    """What a comparison depends on, of this process and machine."""
    import grpc  # noqa: PLC0415  # `compare` does without

    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "grpcio": grpc.__version__,
        "system": platform.system(),
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
    }

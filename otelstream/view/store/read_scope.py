"""What every reading shares: one moment of a capture, its processes, and the streams that a choice leaves."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from otelstream.view.model import Choice, Process, TimeRange
from otelstream.view.store.clocks import offset_of

S = 1_000_000_000
"""ns."""
LATEST_NS = 2**63 - 1
_QUIET_NS, _QUIET_GAPS, _LONGEST_GAP_NS = 15 * S, 3, 120 * S
"""A process is silent after 15 s, or three times its longest gap, of which no more than 2 min count."""
_NEW_NS, _QUIET_WHEN_NEW_NS = 180 * S, 90 * S
"""One that has sent for less than 3 min may export once a minute, as an SDK does by default: silent after 90 s."""
_QUIET_AT_END_NS = 120 * S
"""In a capture that was reopened: how long before its end a process must have ended to be silent."""
_OVERDUE_NS = 30 * S
"""Or half its last window, which is a quarter of the time to when the next is due: windows double."""

_LIVE_NS = 5 * S
"""A range whose end is no longer ago ends now: it was asked for a moment ago."""

_OFFSET = "COALESCE((SELECT {}(value, 0) FROM json_each(:offsets) WHERE key = process), 0)"
"""ns, looked up for the few streams that it may matter to."""
_AHEAD, _BEHIND = _OFFSET.format("MIN"), _OFFSET.format("MAX")
_OVERDUE = "due_ns + MAX(:overdue, (due_ns - seen_ns) / 4)"

# Start, state and end of each stream, then what the choice leaves of them. Whatever comes from outside is a parameter.
_CHOSEN = rf"""
WITH told AS (
  SELECT *,
    CASE WHEN start_ns > :now THEN start_ns + {_AHEAD} ELSE start_ns END AS begun_ns,
    CASE WHEN end_ns > :now THEN end_ns + {_AHEAD} ELSE end_ns END AS over_ns,
    end_ns IS NULL AND (
      process IN (SELECT value FROM json_each(:silent))
      OR CASE WHEN :now > {_OVERDUE} THEN :now - {_BEHIND} > {_OVERDUE} ELSE 0 END
    ) AS is_silent
  FROM stream WHERE start_ns <= :range_end OR (start_ns > :now AND begun_ns <= :range_end)
), timed AS (
  SELECT *,
    CASE WHEN end_ns IS NOT NULL THEN 'ended' WHEN is_silent THEN 'silent' ELSE 'open' END AS state,
    MAX(start_ns, COALESCE(end_ns, CASE WHEN is_silent THEN seen_ns ELSE MAX(:now, seen_ns) END)) AS stop_ns
  FROM told
), chosen AS (
  SELECT * FROM timed
  WHERE stop_ns >= :range_start
    AND (:service IS NULL OR process IN (SELECT id FROM process WHERE service = :service))
    AND (:process IS NULL OR process = :process)
    AND (:method IS NULL OR method = :method)
    AND (:side IS NULL OR side = :side)
    AND (:state IS NULL OR state = :state)
    AND (:outcome IS NULL OR outcome = :outcome)
    AND (:min_age = 0 OR stop_ns - start_ns >= :min_age)
    AND (:text = '' OR method LIKE :part ESCAPE '\' OR peer LIKE :part ESCAPE '\' OR state LIKE :part ESCAPE '\'
      OR outcome LIKE :part ESCAPE '\' OR code LIKE :part ESCAPE '\' OR hex(trace_id) LIKE :beginning ESCAPE '\')
)
"""  # noqa: S608  # from above


@dataclass(frozen=True, slots=True)
class Scope:
    """A capture at one moment, within one read transaction."""

    connection: sqlite3.Connection
    now_ns: int
    """The clock; of a capture that was reopened its newest time, so that what was open is open to its end."""
    processes: Mapping[int, Process]
    """By id, in the order in which they were first seen."""
    offsets: Mapping[int, int]
    """By process: ns that our clock is ahead of its, negative where it is behind; 0 is left out."""

    def chosen(self, select: str, choice: Choice, time_range: TimeRange, **more: Any) -> sqlite3.Cursor:
        """Run ``select`` on the table ``chosen``: ``stream``, with ``state`` and some times more, of what is chosen.

        ``stop_ns`` is where a bar ends: the end, the last sign of one that is silent, or now. ``begun_ns`` and
        ``over_ns`` are start and end; where those are still to come, the sender's clock is ahead, and they are on ours.

        A stream is silent when a window is overdue on the sender's clock. One that is ahead is no reason to say so
        earlier: a single record with a false time would make all streams of its process silent.
        """
        text = _escaped(choice.text.strip())
        values = {
            "now": self.now_ns,
            "silent": json.dumps([process.id for process in self.processes.values() if process.is_silent]),
            "overdue": _OVERDUE_NS,
            "offsets": json.dumps(self.offsets),
            "range_start": to_ns(time_range.start),
            "range_end": to_ns(time_range.end),
            "service": choice.service,
            "process": choice.process,
            "method": choice.method,
            "side": choice.side,
            "state": choice.state,
            "outcome": choice.outcome,
            "min_age": to_ns(choice.min_age),
            "text": text,
            "part": f"%{text}%",
            "beginning": f"{text}%",
        }
        return self.connection.execute(f"{_CHOSEN}{select}", {**values, **more})

    def chosen_processes(self, choice: Choice, time_range: TimeRange) -> list[Process]:
        """Those of the choice that have sent something of the time range."""
        return [
            process
            for process in self.processes.values()
            if choice.service in (None, process.service)
            and choice.process in (None, process.id)
            and process.first <= (own := self.widened(process.id, time_range)).end
            and process.last >= own.start
        ]

    def own_ns(self, process: int, at_ns: int) -> int:
        """What the clock of ``process`` tells when it is ``at_ns``: what is past is looked at as its sender told it."""
        return at_ns - self.offsets.get(process, 0) if at_ns >= self.now_ns - _LIVE_NS else at_ns

    def widened(self, process: int, time_range: TimeRange) -> TimeRange:
        """With what it is on the clock of ``process``, where it ends now."""
        end_ns = to_ns(time_range.end)
        ahead = (self.own_ns(process, end_ns) - end_ns) / S
        return TimeRange(time_range.start + min(ahead, 0.0), time_range.end + max(ahead, 0.0))

    def is_gone(self, process: Process, at_ns: int) -> bool:
        """True when it was silent at ``at_ns`` already."""
        return process.is_silent and process.last < self.own_ns(process.id, at_ns) / S


def open_scope(connection: sqlite3.Connection, clock_ns: int, *, live: bool) -> Scope:
    """The capture as it is now: ``clock_ns``, or its newest time, as far as it can be told, unless ``live``."""
    rows = connection.execute(
        "SELECT id, service, instance, attributes, first_ns, last_ns, arrived_ns, gap_ns FROM process "
        "ORDER BY first_ns, id"
    ).fetchall()
    newest = max((min(last_ns, arrived_ns) for *_, last_ns, arrived_ns, _ in rows), default=clock_ns)
    now_ns = clock_ns if live else newest
    processes, offsets = {}, {}
    for number, service, instance, attributes, first_ns, last_ns, arrived_ns, gap_ns in rows:
        offset_ns = offset_of(last_ns, arrived_ns, gap_ns)
        if offset_ns:
            offsets[number] = offset_ns
        if live:
            least_ns = _QUIET_NS if last_ns - first_ns > _NEW_NS else _QUIET_WHEN_NEW_NS
            is_silent = now_ns - arrived_ns > max(least_ns, _QUIET_GAPS * min(gap_ns, _LONGEST_GAP_NS))
        else:
            is_silent = newest - (last_ns + offset_ns) > _QUIET_AT_END_NS
        processes[number] = Process(
            number, service, instance, first_ns / S, last_ns / S, is_silent, json_object(attributes)
        )
    return Scope(connection, now_ns, processes, offsets)


def is_of_streams(choice: Choice) -> bool:
    """True when it leaves out streams of a method: then what is measured by method says nothing of the rest."""
    return bool(choice.state or choice.outcome or choice.text.strip() or choice.min_age > 0)


def to_ns(seconds: float) -> int:
    """Within what SQLite's integers hold."""
    return int(max(-LATEST_NS, min(seconds * 1e9, LATEST_NS)))


def json_object(text: str) -> dict[str, Any]:
    """Attributes as they are stored; empty where they are not what we write."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def json_list(values: Iterable[int | str]) -> str:
    """For ``IN (SELECT value FROM json_each(?))``: any number of values in one parameter."""
    return json.dumps(list(values))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")

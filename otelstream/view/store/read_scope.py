"""What every reading shares: one moment of a capture, its processes, and the streams that a choice leaves."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from otelstream.view.model import Choice, Process, TimeRange

S = 1_000_000_000
"""ns."""
_LATEST_NS = 2**63 - 1
_QUIET_NS, _QUIET_GAPS, _LONGEST_GAP_NS = 15 * S, 3, 120 * S
"""A process is silent after 15 s, or three times its longest gap, of which no more than 2 min count."""
_NEW_NS, _QUIET_WHEN_NEW_NS = 180 * S, 90 * S
"""One that has sent for less than 3 min may export once a minute, as an SDK does by default: silent after 90 s."""
_QUIET_AT_END_NS = 120 * S
"""In a capture that was reopened: how long before its end a process must have ended to be silent."""
_OVERDUE_NS = 30 * S
"""Or half its last window, which is a quarter of the time to when the next is due: windows double."""

# State and end of each stream, then what the choice leaves of them. Whatever comes from outside is a parameter.
_CHOSEN = r"""
WITH told AS (
  SELECT *, end_ns IS NULL AND (
    process IN (SELECT value FROM json_each(:silent))
    OR COALESCE(:now > due_ns + MAX(:overdue, (due_ns - seen_ns) / 4), 0)
  ) AS is_silent
  FROM stream WHERE start_ns <= :range_end
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
"""


@dataclass(frozen=True, slots=True)
class Scope:
    """A capture at one moment, within one read transaction."""

    connection: sqlite3.Connection
    now_ns: int
    """The clock; of a capture that was reopened its newest time, so that what was open is open to its end."""
    processes: Mapping[int, Process]
    """By id, in the order in which they were first seen."""

    def chosen(self, select: str, choice: Choice, time_range: TimeRange, **more: Any) -> sqlite3.Cursor:
        """Run ``select`` on the table ``chosen``: ``stream``, with ``state`` and ``stop_ns``, of what is chosen.

        ``stop_ns`` is where a bar ends: the end, the last sign of one that is silent, or now.
        """
        text = _escaped(choice.text.strip())
        values = {
            "now": self.now_ns,
            "silent": json.dumps([process.id for process in self.processes.values() if process.is_silent]),
            "overdue": _OVERDUE_NS,
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
            and process.first <= time_range.end
            and process.last >= time_range.start
        ]


def open_scope(connection: sqlite3.Connection, clock_ns: int, *, live: bool) -> Scope:
    """The capture as it is now: ``clock_ns``, or its newest time unless ``live``."""
    rows = connection.execute(
        "SELECT id, service, instance, attributes, first_ns, last_ns, arrived_ns, gap_ns FROM process "
        "ORDER BY first_ns, id"
    ).fetchall()
    newest = max((row[5] for row in rows), default=clock_ns)
    now_ns = clock_ns if live else newest
    processes = {}
    for number, service, instance, attributes, first_ns, last_ns, arrived_ns, gap_ns in rows:
        if live:
            least_ns = _QUIET_NS if last_ns - first_ns > _NEW_NS else _QUIET_WHEN_NEW_NS
            is_silent = now_ns - arrived_ns > max(least_ns, _QUIET_GAPS * min(gap_ns, _LONGEST_GAP_NS))
        else:
            is_silent = newest - last_ns > _QUIET_AT_END_NS
        processes[number] = Process(
            number, service, instance, first_ns / S, last_ns / S, is_silent, json_object(attributes)
        )
    return Scope(connection, now_ns, processes)


def is_of_streams(choice: Choice) -> bool:
    """True when it leaves out streams of a method: then what is measured by method says nothing of the rest."""
    return bool(choice.state or choice.outcome or choice.text.strip() or choice.min_age > 0)


def to_ns(seconds: float) -> int:
    """Within what SQLite's integers hold."""
    return int(max(-_LATEST_NS, min(seconds * 1e9, _LATEST_NS)))


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

"""Processes, what they have told of leaks, and the counts of what is not kept, into the tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from otelstream.view.rows import Dropped, FindingRow, Group

_LONGEST_GAP_NS = 600 * 10**9
"""Silent for longer than this, a process was stopped, or its host asleep: no rhythm of exports to learn from."""

_INSERT = """
INSERT INTO process (key, service, instance, attributes, first_ns, last_ns, arrived_ns) VALUES (?, ?, ?, ?, ?, ?, ?)
"""
_UPDATE = """
UPDATE process SET first_ns = min(first_ns, ?), last_ns = max(last_ns, ?), arrived_ns = ?, gap_ns = ? WHERE id = ?
"""
_SIDE_KNOWN = "SELECT side FROM finding WHERE process = ? AND kind = ? AND method = ? AND side <> '' LIMIT 1"
_UPSERT_FINDING = """
INSERT INTO finding
  (process, kind, method, side, first_ns, last_ns, said_ns, severity, holder, growth, unit, evidence, advice)
VALUES (:process, :kind, :method, :side, :time_ns, :time_ns, CASE :evidence WHEN '' THEN 0 ELSE :time_ns END,
  CASE :severity WHEN '' THEN 'warning' ELSE :severity END, :holder, :growth, :unit, :evidence, :advice)
ON CONFLICT (process, kind, method, side) DO UPDATE SET
  holder = CASE WHEN excluded.last_ns >= last_ns AND excluded.holder <> '' THEN excluded.holder ELSE holder END,
  unit = CASE WHEN excluded.last_ns >= last_ns AND excluded.growth IS NOT NULL THEN excluded.unit ELSE unit END,
  growth = CASE WHEN excluded.last_ns >= last_ns THEN coalesce(excluded.growth, growth) ELSE growth END,
  severity = CASE WHEN :severity <> '' AND excluded.said_ns >= said_ns THEN :severity ELSE severity END,
  evidence = CASE WHEN :evidence <> '' AND excluded.said_ns >= said_ns THEN :evidence ELSE evidence END,
  advice = CASE WHEN :advice <> '' AND excluded.said_ns >= said_ns THEN :advice ELSE advice END,
  said_ns = max(said_ns, excluded.said_ns),
  first_ns = min(first_ns, excluded.first_ns),
  last_ns = max(last_ns, excluded.last_ns)
"""
_UPSERT_DROPPED = """
INSERT INTO dropped VALUES (?, ?, ?, ?) ON CONFLICT (reason) DO UPDATE SET
  count = count + excluded.count, last_ns = excluded.last_ns,
  example = CASE excluded.example WHEN '' THEN example ELSE excluded.example END
"""


def write_process(connection: sqlite3.Connection, group: Group, now_ns: int) -> int | None:
    """The id of its row. None for one of which nothing was ever kept: it needs none."""
    process = group.process
    found = connection.execute("SELECT id, arrived_ns, gap_ns FROM process WHERE key = ?", (process.key,)).fetchone()
    times = list(group.times())
    if found is None:
        if not times:
            return None
        values = (process.key, process.service, process.instance, process.attributes, min(times), max(times), now_ns)
        return connection.execute(_INSERT, values).lastrowid
    id_, arrived_ns, gap_ns = found
    first_ns, last_ns = (min(times), max(times)) if times else (2**63 - 1, 0)
    gap_ns = _longest_gap(gap_ns, max(0, now_ns - arrived_ns))
    connection.execute(_UPDATE, (first_ns, last_ns, now_ns, gap_ns, id_))
    return int(id_)


def _longest_gap(known_ns: int, gap_ns: int) -> int:
    """Longest of late: it shrinks by a minute in 16, so that one slow start is forgotten."""
    if gap_ns > _LONGEST_GAP_NS:
        return known_ns
    return max(gap_ns, known_ns - gap_ns // 16)


def write_findings(connection: sqlite3.Connection, process: int, findings: Iterable[FindingRow]) -> None:
    """Spans repeat what is known of a leak: of those that say the same, only the newest is written."""
    newest: dict[tuple[str, ...], FindingRow] = {}
    for finding in findings:
        key = (finding.kind, finding.method, finding.side, finding.evidence)
        known = newest.get(key)
        if known is None or finding.time_ns >= known.time_ns:
            newest[key] = finding
    for finding in newest.values():
        side = finding.side
        if not side:  # not every sender tells it with an interval
            found = connection.execute(_SIDE_KNOWN, (process, finding.kind, finding.method)).fetchone()
            side = found[0] if found is not None else ""
        connection.execute(
            _UPSERT_FINDING,
            {
                "process": process,
                "kind": finding.kind,
                "method": finding.method,
                "side": side,
                "time_ns": finding.time_ns,
                "severity": finding.severity,
                "holder": finding.holder,
                "growth": finding.growth,
                "unit": finding.unit,
                "evidence": finding.evidence,
                "advice": finding.advice,
            },
        )


def write_dropped(connection: sqlite3.Connection, dropped: Dropped, now_ns: int) -> None:
    """Add to the counts."""
    connection.executemany(
        _UPSERT_DROPPED,
        [(reason.name, count, now_ns, dropped.examples.get(reason, "")) for reason, count in dropped.counts.items()],
    )

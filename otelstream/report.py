"""A leak report, and the open streams, as plain text for a log, a pipe or ``curl``. And a report back from its JSON."""

from __future__ import annotations

import math
import re
import textwrap
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar

from otelstream.findings import Finding, Growth, Kind, LeakReport, MethodRow, Outliving, Severity

KINDS = {
    Kind.MESSAGES_RETAINED: "messages are kept",
    Kind.STREAM_NOT_CLOSED: "streams are not closed",
    Kind.STREAM_ABANDONED: "streams are dropped without being finished",
    Kind.ENDED_STREAM_KEPT: "streams are kept after their end",
    Kind.ENDLESS_RECEIVE: "a handler goes on after the last request",
    Kind.PEER_GONE: "a handler goes on after its call",
    Kind.PEER_NOT_READING: "the peer does not read",
    Kind.STREAM_IDLE: "a stream is idle",
    Kind.NO_DEADLINE: "a stream has no deadline",
    Kind.TASK_OUTLIVING: "tasks pile up",
    Kind.THREAD_OUTLIVING: "threads outlive their call",
    Kind.PYTHON_GROWTH: "Python objects grow",
    Kind.PROTOBUF_GROWTH: "protobuf's memory grows",
    Kind.NATIVE_GROWTH: "native memory grows",
    Kind.MEMORY_GROWTH: "memory grows",
    Kind.FRAGMENTATION: "allocators keep what was freed",
}
"""Each kind in words."""

_UNITS = {"{message}": "messages", "{stream}": "streams", "{task}": "tasks", "{thread}": "threads"}
_T = TypeVar("_T")


def text(report: LeakReport, *, width: int = 100) -> str:
    """``report`` for people, the verdict first. Sentences are wrapped at ``width``; names and tables never are."""
    lines = [*_wrapped(report.verdict, width), process(report)]
    for number, finding in enumerate(report.findings, 1):
        lines += ["", f"{number}. {headline(finding)}"]
        for label, value in details(finding):
            if label == "held by":
                lines.append(f"   {label:9} {value}")
            else:
                lines += _wrapped(value, width, f"   {label:9} ")
    for title, rows in tables(report):
        lines += ["", title, *columns(rows)]
    if report.notes:
        lines += ["", "Notes"]
        lines += [line for note in report.notes for line in _wrapped(note, width, "  - ")]
    return "\n".join(lines) + "\n"


def streams_text(streams: Sequence[Mapping[str, Any]], *, most: int = 1000) -> str:
    """Open streams (``runtime.StreamInfo`` as dictionaries) for people; of more than ``most``, the first ones."""
    if not streams:
        return "No stream is open.\n"
    rows = [["method", "side", "type", "age", "idle", "sent", "received", "peer", "trace"]]
    rows += [
        [
            *(clean(stream["method"]), stream["side"], stream["rpc_type"]),
            *(duration(stream["age"]), duration(stream["idle"])),
            f"{stream['sent_count']:,} ({size(stream['sent_bytes'])})",
            f"{stream['received_count']:,} ({size(stream['received_bytes'])})",
            *(clean(stream["peer"] or ""), stream["trace_id"]),
        ]
        for stream in streams[:most]
    ]
    left_out = len(streams) - most
    more = [f"  and {left_out:,} more"] if left_out > 0 else []
    return "\n".join([f"{len(streams):,} open, the oldest first", *columns(rows), *more]) + "\n"


def process(report: LeakReport) -> str:
    """Which process, when, and its memory, in one line."""
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(report.time))
    parts = [f"{clean(report.service)}, pid {report.pid}", when, f"watched for {duration(report.window)}"]
    if report.rss is not None:
        grown = f", {growth(report.memory_growth)}" if report.memory_growth else ""
        parts.append(f"memory {size(report.rss)}{grown}")
    return "; ".join(parts)


def headline(finding: Finding) -> str:
    """What is wrong, and where."""
    where = f": {clean(finding.method)}" if finding.method else ""
    side = f" ({finding.side})" if finding.side else ""
    return f"[{finding.severity.value}] {KINDS[finding.kind]}{where}{side}"


def details(finding: Finding) -> Iterator[tuple[str, str]]:
    """What else there is to say of it, each with its label."""
    grows = [growth(each) for each in (finding.growth, finding.memory_growth) if each]
    if finding.share is not None:
        grows.append(f"{100 * finding.share:.0f} % of the process's growth")
    if grows:
        yield "grows", ", ".join(dict.fromkeys(grows))  # the two are the same where bytes are what is counted
    if finding.holder:
        yield "held by", clean(finding.holder)
    yield "evidence", clean(finding.evidence)
    yield "advice", clean(finding.advice)


def tables(report: LeakReport) -> Iterator[tuple[str, list[list[str]]]]:
    """Title and rows, the first of them the header, of each table in which there is something."""
    made = {
        "Methods": method_table(report.methods),
        "Messages kept": kept_table(report.methods),
        "Still running after their call": outliving_table(report.outliving),
    }
    return ((title, rows) for title, rows in made.items() if len(rows) > 1)


def method_table(methods: Iterable[MethodRow]) -> list[list[str]]:
    """A header and a row per method. What is nothing everywhere has no column."""
    rows = [["method", "side", "open", "oldest", "idle", "ended", "messages", "tasks", "threads"]]
    rows += [
        [
            *(clean(row.method), row.side, f"{row.open:,}"),
            *(duration(row.oldest) if row.open else "", duration(row.idle) if row.open else ""),
            *(f"{row.ended:,}", f"{row.messages:,}"),
            *(f"{row.tasks:,}" if row.tasks else "", f"{row.threads:,}" if row.threads else ""),
        ]
        for row in methods
    ]
    filled = [index for index in range(len(rows[0])) if any(row[index] for row in rows[1:])]
    return [[row[index] for index in filled] for row in rows]


def kept_table(methods: Iterable[MethodRow]) -> list[list[str]]:
    """A header and a row per method that keeps messages."""
    rows = [["method", "side", "messages", "size", "followed"]]
    rows += [
        [
            *(clean(row.method), row.side),
            _number(row.retained) + (f" ± {_number(row.retained_error)}" if row.retained_error else ""),
            size(row.retained_bytes),
            f"1 in {row.sampled_every:,}" if row.sampled_every > 1 else "all",
        ]
        for row in methods
        if row.retained
    ]
    return rows


def outliving_table(outliving: Iterable[Outliving]) -> list[list[str]]:
    """A header and a row per kind of task or thread."""
    rows = [["what", "count", "oldest", "of", "name", "waits at"]]
    rows += [
        [
            *("threads" if each.is_thread else "tasks", f"{each.count:,}", duration(each.oldest)),
            *(f"{clean(each.method)} ({each.side})", clean(each.name), clean(each.waits_at or "")),
        ]
        for each in outliving
    ]
    return rows


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """``rows``, the first of them the header, in columns; numbers to the right."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    right = [is_number(rows, index) for index in range(len(rows[0]))]
    lines = (
        "  ".join(cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(row, widths, right, strict=True))
        for row in rows
    )
    return [f"  {line}".rstrip() for line in lines]


def is_number(rows: Sequence[Sequence[str]], index: int) -> bool:
    """Nothing but numbers, alone or followed by words, is in the column; the first row is the header."""
    return all(re.match(r"([-+](?=\d))?[\d.,]*(?![^ ])", row[index]) for row in rows[1:])


def growth(value: Growth) -> str:
    """``+4.0 ± 0.2 MiB per minute``, ``+120 ± 4 messages per minute``."""
    sign = "-" if value.per_minute < 0 else "+"
    count, plus_minus, unit = abs(value.per_minute), value.plus_minus, _UNITS.get(value.unit, value.unit)
    written = _number
    if unit == "By":
        factor, unit = _scale(count)
        count, plus_minus, written = count / factor, plus_minus / factor, "{:,.1f}".format
    uncertain = f" ± {written(plus_minus)}" if math.isfinite(plus_minus) else ""
    return f"{sign}{written(count)}{uncertain} {unit} per minute"


def size(count: float) -> str:
    """``count`` bytes for people."""
    factor, unit = _scale(count)
    return f"{count / factor:,.1f} {unit}"


def duration(seconds: float) -> str:
    """``seconds`` for people: ``12 s``, ``3 min``, ``2.5 h``."""
    for unit, factor in (("d", 86400), ("h", 3600)):
        if seconds >= 2 * factor:
            return f"{seconds / factor:.1f} {unit}"
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"  # noqa: PLR2004


def clean(name: str) -> str:
    """``name`` on one line, and nothing in it that a terminal obeys: a peer may choose the name of a method."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in name)


def _scale(count: float) -> tuple[int, str]:
    for unit, factor in (("GiB", 1024**3), ("MiB", 1024**2)):
        if count >= factor:
            return factor, unit
    return 1024, "KiB"


def _number(count: float) -> str:
    return f"{count:,.0f}" if count >= 10 else f"{count:.2g}"  # noqa: PLR2004


def _wrapped(sentence: str, width: int, label: str = "") -> list[str]:
    indent = " " * len(label)
    wrapper = textwrap.TextWrapper(
        width, initial_indent=label, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return wrapper.wrap(clean(sentence))


def from_dict(data: Mapping[str, Any]) -> LeakReport:
    """The report whose ``to_dict`` is ``data``. Raises ``ValueError`` for what is none, or not of this version."""
    try:
        findings = [
            _made(
                Finding,
                {
                    **finding,
                    "kind": Kind(finding["kind"]),
                    "severity": Severity(finding["severity"]),
                    "growth": _growth(finding["growth"]),
                    "memory_growth": _growth(finding["memory_growth"]),
                },
            )
            for finding in data["findings"]
        ]
        parts = {
            "findings": tuple(findings),
            "memory_growth": _growth(data["memory_growth"]),
            "methods": tuple(_made(MethodRow, row) for row in data["methods"]),
            "outliving": tuple(_made(Outliving, each) for each in data["outliving"]),
            "notes": tuple(data["notes"]),
        }
        return _made(LeakReport, {**data, **parts})
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no leak report of this version: {error}") from error


def _growth(data: Mapping[str, Any] | None) -> Growth | None:
    if data is None:
        return None
    # JSON has no infinity.
    return _made(Growth, {**data, "plus_minus": math.inf if data["plus_minus"] is None else data["plus_minus"]})


def _made(kind: type[_T], data: Mapping[str, Any]) -> _T:
    """A newer version may have more fields."""
    return kind(**{each.name: data[each.name] for each in fields(kind)})  # type: ignore[arg-type]

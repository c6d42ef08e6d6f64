"""``otelstream view FILE.db --html report.html``: the picture, the verdict and the tables, self-contained.

The chart library is the one in NiceGUI's wheel, put into the file; nothing is loaded from anywhere. Every value is
escaped: the tables by ``html.escape``, the data of the chart as JSON in which no tag can end.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from datetime import timezone
from html import escape
from pathlib import Path
from string import Template
from typing import Any, TypeAlias

from nicegui.elements import echart

from otelstream._version import __version__
from otelstream.view.chart.colours import DARK, LIGHT
from otelstream.view.chart.options import Picture, height, options
from otelstream.view.model import Choice, FindingRow, MethodRow, StreamRow
from otelstream.view.page import words
from otelstream.view.page.foot import foot
from otelstream.view.page.heap_look import HeapLook, heap_look
from otelstream.view.page.look import Asked, Look, look
from otelstream.view.store.reader import Reader

_LANES, _BARS = 150, 3000
"""More than on the page, for one cannot zoom in and ask again."""
_STREAMS = 5000
_HERE = Path(__file__).parent

_Row: TypeAlias = "Mapping[str, tuple[str, float | None]]"
"""By column: what it says, and a number to sort by."""


def render(reader: Reader, name: str, choice: Choice | None = None) -> str:
    """The whole file. ``name`` says what was captured."""
    asked = Asked(choice=choice or Choice(), range="all", rows=_STREAMS)
    found = look(reader, asked, lanes=_LANES, bars=_BARS)
    start, end = (words.clock(time, timezone.utc, date=True) for time in (found.range.start, found.range.end))
    return Template((_HERE / "report.html").read_text(encoding="utf-8")).substitute(
        title=escape(f"otelstream: {name}"),
        style=(_HERE / "report.css").read_text(encoding="utf-8"),
        name=escape(name),
        about=escape(f"{start} to {end}, all times in UTC. Made by otelstream {__version__}."),
        level=escape(found.verdict.level),
        verdict=escape(found.verdict.sentence),
        findings="".join(map(_finding, found.verdict.findings)),
        height=height(_picture(found)),
        imports=_json({"imports": _modules()}),
        chart=_json(_chart(found)),
        script=(_HERE / "report.js").read_text(encoding="utf-8"),
        methods=_table("methods", words.METHOD_COLUMNS, map(_method, found.methods)),
        streams=_table("streams", words.STREAM_COLUMNS, map(_stream, found.streams.rows)),
        heap=_heap(heap_look(reader, asked, found)),
        streams_title=escape(_count(found)),
        foot=escape(_foot(found)),
    )


def _picture(found: Look) -> Picture:
    leaking = next((finding.process for finding in found.verdict.findings), None)
    return Picture(found.memory, found.lanes, found.range, found.shown, leaking, utc=True)


def _chart(found: Look) -> dict[str, Any]:
    light, dark = (options(_picture(found), theme) for theme in (LIGHT, DARK))
    series = light.pop("series")
    del dark["series"]
    return {
        "light": light,
        "dark": dark,
        "series": series,
        "resident": {"light": LIGHT.resident, "dark": DARK.resident},
    }


def _modules() -> dict[str, str]:
    """ECharts as NiceGUI brings it: each module by a name, for inside a file there is nothing to be relative to."""
    folder = Path(echart.__file__).parent / "dist"
    index = (folder / "index.js").read_text(encoding="utf-8")
    names = re.findall(r'from\s*"\./([^"]+)"', index)
    sources = {"nicegui-echart": re.sub(r'from\s*"\./', 'from"', index)}
    sources |= {name: (folder / name).read_text(encoding="utf-8") for name in names}
    return {
        name: f"data:text/javascript;base64,{base64.b64encode(text.encode()).decode()}"
        for name, text in sources.items()
    }


def _json(value: Any) -> str:
    """JSON that can stand in a script element: HTML's parser looks for ``<`` in it, whatever it means to JSON."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _finding(finding: FindingRow) -> str:
    method = f"{finding.method} {finding.side}".strip() or finding.service
    lines = [finding.evidence, f"Held by {finding.holder}." if finding.holder else "", finding.advice]
    return f"<li><b>{escape(method)}</b>: {escape(' '.join(filter(None, lines)))}</li>"


def _method(row: MethodRow) -> _Row:
    values = words.method_row(row, {row.method: row.method})  # whole, so that a search finds its package
    return {
        name: (str(values.get(f"{name}_text", values[name])), _number(values[name])) for name in words.METHOD_COLUMNS
    }


def _stream(row: StreamRow) -> _Row:
    values = {**words.stream_row(row, {row.method: row.method}, timezone.utc), "trace_id": row.trace_id}
    sorted_by = {
        "start": row.start,
        "age": row.age,
        "idle": row.idle or 0,
        "messages": row.sent + row.received,
        "bytes": row.sent_bytes + row.received_bytes,
        "messages_per_s": row.messages_per_s,
        "retained": row.retained or 0,
    }
    return {name: (str(values[name]), sorted_by.get(name)) for name in words.STREAM_COLUMNS}


def _heap(found: HeapLook) -> str:
    """Where the memory is by the newest profile; nothing where none has come."""
    if not found.tables:
        return ""
    tables = "".join(_heap_table(*table) for table in found.tables)
    return f"<h2>Memory</h2><p>{escape(words.heap(found, timezone.utc))}</p>{tables}"


def _heap_table(title: str, rows: list[list[str]]) -> str:
    header, *rest = rows
    body = ({name: (cell, None) for name, cell in zip(header, row, strict=True)} for row in rest)
    table = _table("", {name: name for name in header}, body)
    return f'<p class="quiet">{escape(title)}</p><div class="wide">{table}</div>'


def _number(value: Any) -> float | None:
    return value if isinstance(value, (int, float)) else None


def _table(name: str, columns: Mapping[str, str], rows: Iterable[_Row]) -> str:
    head = "".join(f'<th><button type="button">{escape(label)}</button></th>' for label in columns.values())
    body = "".join(f"<tr>{''.join(_cell(key, *row[key]) for key in columns)}</tr>" for row in rows)
    return f'<table id="{name}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _cell(name: str, text: str, number: float | None) -> str:
    if number is None:
        return f"<td>{escape(text)}</td>"
    side = "" if name == "outcomes" else ' class="n"'  # sorted as a number, and read as words
    return f'<td{side} data-n="{number:.15g}">{escape(text)}</td>'


def _count(found: Look) -> str:
    shown, total = len(found.streams.rows), found.streams.total
    return f"{total:,} streams" if shown == total else f"{total:,} streams, the {shown:,} oldest"


def _foot(found: Look) -> str:
    names = ", ".join(process.label for process in found.overview.processes)
    return f"Processes: {names or 'none'}. {foot(found.overview, timezone.utc)}"

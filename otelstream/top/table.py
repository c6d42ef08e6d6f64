"""A snapshot as it is shown: the verdict, and a table each of processes, methods and streams."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, JustifyMethod, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from otelstream import wording
from otelstream.report import clean, duration, size
from otelstream.top.snapshot import MethodRow, ProcessRow, Snapshot, StreamRow

SORTS = {
    "age": "the oldest first",
    "idle": "the most idle first",
    "messages": "the most messages/s first",
    "bytes": "the most bytes/s first",
    "retained": "those with the most messages retained first",
}
"""What rows can be sorted by, and how that is said."""
_OF_METHODS = {
    "age": "oldest",
    "idle": "idle",
    "messages": "messages_per_s",
    "bytes": "bytes_per_s",
    "retained": "retained",
}
OF_STREAMS = {**_OF_METHODS, "age": "age"}
"""The field of ``StreamRow`` that each sorts by."""
_LEVELS = {"leak": "bold red", "calm": "bold green", "early": "bold yellow", "empty": "bold"}
_OPEN = "open"
_SHORTEST = 8
"""What is left of a name at least, in characters."""
_GAP = 2
"""Between two columns; the box makes one of it."""
_TABLE_LINES = 4
"""Of a table besides its rows: a line before it, its title, its header and what is under it."""


@dataclass(frozen=True, slots=True)
class Tables:
    """Everything, for rich to print; ``fit``: in no more lines than the terminal has."""

    snapshot: Snapshot
    sort: str
    limit: int
    """Streams."""
    fit: bool = False
    trouble: str = ""
    """Why it is not of now."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[RenderableType]:
        head = [Text(clean(self.snapshot.verdict) or "No verdict.", _LEVELS.get(self.snapshot.level, "bold"))]
        if self.trouble:
            head.append(Text(clean(self.trouble), "bold yellow"))
        left = None
        if self.fit:
            taken = len(console.render_lines(Group(*head), options)) + 3 * _TABLE_LINES
            left = max(options.size.height - taken, 3)
        processes, methods, streams = self._rows(left)
        yield from head
        order, width = SORTS[self.sort], options.max_width
        yield from _processes(processes, len(self.snapshot.processes), width)
        yield from _methods(methods, len(self.snapshot.methods), order, width)
        yield from _streams(streams, self.snapshot.streams_total, order, width)

    def _rows(self, left: int | None) -> tuple[list[ProcessRow], list[MethodRow], list[StreamRow]]:
        """What is shown in ``left`` lines: of processes a quarter at most, of methods half of what then remains."""
        processes = _sorted(self.snapshot.processes, "resident")
        methods = _sorted(self.snapshot.methods, _OF_METHODS[self.sort])
        streams = _sorted(self.snapshot.streams, OF_STREAMS[self.sort])[: self.limit]
        if left is not None:
            processes = processes[: max(left // 4, 1)]
            left -= len(processes)
            methods = methods[: max(left // 2, left - len(streams), 1)]
            left -= len(methods)
            streams = streams[: max(left, 1)]
        return processes, methods, streams


def _sorted(rows: Sequence[Any], name: str) -> list[Any]:
    """Those that have most of it first, those that do not tell last."""
    return sorted(rows, key=lambda row: -1.0 if getattr(row, name) is None else getattr(row, name), reverse=True)


def _processes(rows: Sequence[ProcessRow], total: int, width: int) -> list[RenderableType]:
    header = ("process", "memory", "per minute", "")
    cells = [
        (
            *(clean(row.label) or "this one", _size(row.resident), _growth(row.resident_per_minute)),
            "silent" if row.is_silent else "",
        )
        for row in rows
    ]
    return _table(_title("Processes", len(rows), total, "the largest first"), header, cells, width)


def _methods(rows: Sequence[MethodRow], total: int, order: str, width: int) -> list[RenderableType]:
    header = (*("method", "side", "open", "oldest", "idle", "messages/s", "bytes/s", "retained", "size"),)
    names = _short([row.method for row in rows])
    cells = [
        (
            *(names[row.method], clean(row.side), f"{row.open:,}", _duration(row.oldest), _duration(row.idle)),
            *(_rate(row.messages_per_s), _size(row.bytes_per_s), _count(row.retained)),
            _size(row.retained_size) if row.retained else "",
        )
        for row in rows
    ]
    return _table(_title("Methods", len(rows), total, order), header, cells, width)


def _streams(rows: Sequence[StreamRow], total: int, order: str, width: int) -> list[RenderableType]:
    header = (
        *("method", "side", "service", "peer", "state", "age", "idle"),
        *("messages", "messages/s", "bytes/s", "retained"),
    )
    names = _short([row.method for row in rows])
    # What is the same in every row needs no column.
    services = len({row.service for row in rows}) > 1
    states = any(row.state != _OPEN for row in rows)
    cells = [
        (
            *(names[row.method], clean(row.side), clean(row.service) if services else "", clean(row.peer)),
            *(clean(row.state) if states else "", _duration(row.age), _duration(row.idle), f"{row.messages:,}"),
            *(_rate(row.messages_per_s), _size(row.bytes_per_s), _count(row.retained)),
        )
        for row in rows
    ]
    return _table(_title("Streams" if states else "Open streams", len(rows), total, order), header, cells, width)


def _title(what: str, shown: int, total: int, order: str) -> str:
    return f"{what}: {total:,}" if shown == total else f"{what}: {shown:,} of {total:,}, {order}"


_NAMES = frozenset({"process", "method", "service", "peer"})
_WORDS = frozenset({"side", "state"})


@dataclass(frozen=True, slots=True)
class _Name:
    """Loses its beginning where there is no room for it: names of methods differ in their ends."""

    text: str

    def __rich_measure__(self, _console: Console, options: ConsoleOptions) -> Measurement:
        length = cell_len(self.text)
        return Measurement(min(length, _SHORTEST), length).with_maximum(options.max_width)

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> Iterable[RenderableType]:
        text, width = self.text, options.max_width
        while cell_len(text) > width and len(text) > 1:
            text = f"…{text[2:]}"
        yield Text(text, no_wrap=True, overflow="crop")


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[RenderableType]:
    """Title and table, one line per row, without the columns in which there is nothing, or for which is no room."""
    if not rows:
        return ["", Text(title, "bold")]
    filled = [index for index in range(len(header)) if any(row[index] for row in rows)]
    least = [_least(header[index], [row[index] for row in rows]) for index in filled]
    while len(filled) > 1 and sum(least) + _GAP * (len(least) - 1) > width:
        filled.pop()
        least.pop()
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, _GAP - 1, 0, 0))
    for name in (header[index] for index in filled):
        justify: JustifyMethod = "left" if name in _NAMES or name in _WORDS else "right"
        table.add_column(name, justify=justify, no_wrap=name not in _NAMES)
    for row in rows:
        table.add_row(*(_Name(row[index]) if header[index] in _NAMES else Text(row[index]) for index in filled))
    return ["", Text(title, "bold"), table]


def _least(name: str, cells: Iterable[str]) -> int:
    """Columns that a column takes at least: only names can be cut."""
    needed = max(map(cell_len, (name, *cells)))
    return min(needed, _SHORTEST) if name in _NAMES else needed


def _short(methods: Iterable[str]) -> dict[str, str]:
    return {method: clean(name) for method, name in wording.short_names(methods).items()}


def _size(count: float | None) -> str:
    return "" if count is None else size(count)


def _growth(per_minute: float | None) -> str:
    return "" if per_minute is None else f"{'-' if per_minute < 0 else '+'}{size(abs(per_minute))}"


def _duration(seconds: float | None) -> str:
    return "" if seconds is None else duration(seconds)


def _count(count: float | None) -> str:
    return "" if not count else f"{count:,.0f}"


def _rate(per_s: float | None) -> str:
    if per_s is None:
        return ""
    return f"{per_s:,.1f}" if per_s < 10 else f"{per_s:,.0f}"  # noqa: PLR2004

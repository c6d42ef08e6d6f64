"""What the page's Memory tab shows: the heap of a process, or what grew in it, of a method or of a stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from otelstream.profile import top
from otelstream.profile.model import METHOD, only
from otelstream.view.model import Choice, Process, TimeRange
from otelstream.view.page.look import Asked, Look, ranked
from otelstream.view.snapshots import HEAP, Selection, Snapshot
from otelstream.view.store.reader import Reader

Table: TypeAlias = "tuple[str, list[list[str]]]"
"""Its title and its rows, the first of them the header."""


@dataclass(frozen=True, slots=True)
class HeapLook:
    """Of one process; without ``process`` none of those chosen has sent a profile."""

    process: Process | None = None
    newest: Snapshot | None = None
    base: Snapshot | None = None
    """What ``newest`` is compared with; None where it is shown itself, or no other is in the range."""
    selection: Selection | None = None
    """None when there is nothing to compare, or what is selected has left meanwhile."""
    methods: Sequence[str] = ()
    """All that the profile names, whichever is chosen."""
    total: int = 0
    """Of what is selected, in the unit of ``newest``."""
    tables: Sequence[Table] = ()
    """The lines with most of it, and the methods, or of one method the streams; none where nothing is selected."""


def heap_look(reader: Reader, asked: Asked, found: Look, before: HeapLook | None = None) -> HeapLook:
    """What is ``asked`` for of what was ``found``; ``before``, where that is still the same, is not read again."""
    process, newest = _newest(reader, asked, found)
    if process is None or newest is None:
        return HeapLook()
    base = _base(reader, newest, found.shown) if asked.growth else None
    if asked.growth and base is None:
        return HeapLook(process, newest)
    selection = Selection(
        snapshot=newest.id,
        base=None if base is None else base.id,
        method=None if asked.stream is not None else asked.choice.method,
        side=None if asked.stream is not None else asked.choice.side,
        stream=None if asked.stream is None else asked.stream.id,
    )
    if before is not None and before.selection == selection:
        return replace(before, process=process)
    whole = reader.profile(replace(selection, method=None))
    if whole is None:
        return HeapLook(process, newest, base)
    is_of_streams = base is None and (selection.method or selection.stream) is not None
    profile = whole if selection.method is None else only(whole, METHOD, selection.method)
    return HeapLook(
        process=process,
        newest=newest,
        base=base,
        selection=selection,
        methods=sorted({value for sample in whole.samples for label, value in sample.labels if label == METHOD}),
        total=profile.total(),
        tables=list(top.tables(profile, "stream" if is_of_streams else "method")),
    )


def _newest(reader: Reader, asked: Asked, found: Look) -> tuple[Process | None, Snapshot | None]:
    """The first process that has a heap profile, those that leak before the others, and its newest in the range."""
    choice = asked.choice if asked.stream is None else Choice(process=asked.stream.process)
    processes = ranked(found.overview, choice, {finding.process for finding in found.verdict.findings})
    until = TimeRange(0.0, found.shown.end)
    newest = {each.process: each for each in reader.snapshots([each.id for each in processes], until) if _is_heap(each)}
    process = next((each for each in processes if each.id in newest), None)
    return process, None if process is None else newest[process.id]


def _base(reader: Reader, newest: Snapshot, shown: TimeRange) -> Snapshot | None:
    """The first in the range that counts the same; None where there is no other than ``newest``."""
    alike = (each for each in reader.snapshots([newest.process], shown) if each.types == newest.types)
    first = next(alike, newest)
    return None if first.id == newest.id else first


def _is_heap(snapshot: Snapshot) -> bool:
    return snapshot.kind == HEAP

"""The profiles of processes: which there are, and one of them, or what grew between two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from otelstream.profile import pprof
from otelstream.profile.model import METHOD, SIDE, SPAN_ID, TRACE_ID, Profile, minus, only
from otelstream.view.model import TimeRange
from otelstream.view.snapshots import Selection, Snapshot
from otelstream.view.store.read_scope import S, Scope, json_list, to_ns

_HAS_PROFILES = "SELECT 1 FROM sqlite_master WHERE name = 'snapshot'"
_SNAPSHOTS = """
SELECT id, process, kind, types, time_ns, duration_ns, total, unit FROM snapshot
WHERE process IN (SELECT value FROM json_each(?)) ORDER BY time_ns, id
"""
_PROFILE = "SELECT profile FROM snapshot_profile WHERE snapshot = ?"
_STREAM = "SELECT lower(hex(trace_id)), lower(hex(span_id)) FROM stream WHERE id = ?"


def has_profiles(scope: Scope) -> bool:
    """False in a capture of 0.1.0 that nobody has gone on with."""
    return scope.connection.execute(_HAS_PROFILES).fetchone() is not None


def snapshots(scope: Scope, processes: Sequence[int], time_range: TimeRange) -> list[Snapshot]:
    """Those of ``processes`` in the range, in order of time."""
    if not has_profiles(scope):
        return []
    own = {number: scope.widened(number, time_range) for number in processes}
    return [
        Snapshot(number, process, kind, types, time_ns / S, duration_ns / S, total, unit)
        for number, process, kind, types, time_ns, duration_ns, total, unit in scope.connection.execute(
            _SNAPSHOTS, (json_list(processes),)
        )
        if to_ns(own[process].start) <= time_ns <= to_ns(own[process].end)
    ]


_decode = lru_cache(maxsize=2)(pprof.decode)
"""One looks at the same, or the same two, again and again: its tables, its flame graph, and each of its methods."""


class Kept(NamedTuple):
    """What a selection is made of."""

    profile: bytes
    base: bytes | None
    labels: Mapping[str, str]
    """Of the samples that are selected."""

    def read(self) -> Profile:
        """What is selected: a second for a large one, so it is not done within the transaction.

        Raises ``ValueError`` for a base that counts something else.
        """
        found = self._selected(self.profile)
        return found if self.base is None else minus(found, self._selected(self.base))

    def _selected(self, data: bytes) -> Profile:
        found = _decode(data)
        for label, value in self.labels.items():
            found = only(found, label, value)
        return found


def kept(scope: Scope, selection: Selection) -> Kept | None:
    """None when its profiles, or its stream, are not, or no longer, in the capture."""
    labels = {METHOD: selection.method, SIDE: selection.side}
    if selection.stream is not None:
        found = scope.connection.execute(_STREAM, (selection.stream,)).fetchone()
        if found is None:
            return None
        labels[TRACE_ID], labels[SPAN_ID] = found
    profile = _profile(scope, selection.snapshot)
    base = None if selection.base is None else _profile(scope, selection.base)
    if profile is None or (selection.base is not None and base is None):
        return None
    return Kept(profile, base, {label: value for label, value in labels.items() if value is not None})


def _profile(scope: Scope, number: int) -> bytes | None:
    found = scope.connection.execute(_PROFILE, (number,)).fetchone() if has_profiles(scope) else None
    return None if found is None else found[0]

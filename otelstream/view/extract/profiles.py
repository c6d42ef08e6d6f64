"""OTLP profiles to snapshots.

Source: opentelemetry/proto/profiles/v1development/profiles.proto. What otelstream writes is in ``profile/otlp.py``.
"""

from __future__ import annotations

from typing import Any

from otelstream.profile import choose, otlp, pprof
from otelstream.profile.model import Profile
from otelstream.view.extract.attributes import LONGEST, count, is_time, text
from otelstream.view.extract.resource import process_of
from otelstream.view.intake import Reason, Signal
from otelstream.view.rows import Batch, Group, SnapshotRow
from otelstream.view.snapshots import CPU, HEAP, OTHER

_MOST = 2**62
"""Of one kind of value, all samples together: so the difference of two profiles has no more than 64 bits."""
_MOST_PARTS = 1_000_000
"""Frames and labels of all samples of a profile, those of one stack as often as it is used: it is read again with as
many, to be shown. 10,000 samples, which are a large heap's, may be 90 deep."""
_SIZE = "inuse_space"
_KINDS = {_SIZE: HEAP, "inuse_objects": HEAP, "cpu": CPU, "wall": CPU, "samples": CPU}
"""By the types that pprof's profiles have, in Go and here."""


def add_profiles(batch: Batch, request: Any, now_ns: int) -> None:
    """Add what is kept of an ``ExportProfilesServiceRequest``; or count it, and why."""
    _cut(request.dictionary)
    try:
        found = otlp.profiles(request)
    except ValueError as error:
        batch.dropped.add(Reason.BAD_PROFILE, _count(request), str(error))
        return
    groups: dict[bytes, Group] = {}
    for resource, profile in found:
        process = process_of(resource)
        if process is None:
            batch.dropped.add(Reason.TOO_MANY_ATTRIBUTES, len(profile.types), "a resource")
            continue
        reason = _fault(profile, now_ns)
        if reason is None:
            groups.setdefault(process.key, Group(process)).snapshots.append(_snapshot(profile))
        else:
            batch.dropped.add(reason, len(profile.types), _names(profile))
    batch.groups.extend(groups.values())


def _cut(dictionary: Any) -> None:
    """Names as long as a column's: one that is written once may stand in a million frames."""
    strings = dictionary.string_table
    for index, string in enumerate(strings):
        if len(string) > LONGEST:
            strings[index] = text(string)
    for attribute in dictionary.attribute_table:
        for value in (attribute.value, *attribute.value.array_value.values):
            if len(value.string_value) > LONGEST:
                value.string_value = text(value.string_value)


def _count(request: Any) -> int:
    of_resources, of_scopes, of_records = Signal.PROFILES.fields
    scopes = (scope for each in getattr(request, of_resources) for scope in getattr(each, of_scopes))
    return sum(len(getattr(scope, of_records)) for scope in scopes)


def _fault(profile: Profile, now_ns: int) -> Reason | None:
    """Why it is not kept."""
    if not is_time(profile.time_ns, now_ns):
        return Reason.BAD_TIME
    if sum(len(sample.stack) + len(sample.labels) for sample in profile.samples) > _MOST_PARTS:
        return Reason.TOO_MANY_FRAMES
    sums = (sum(abs(sample.values[index]) for sample in profile.samples) for index in range(len(profile.types)))
    return Reason.BAD_PROFILE if any(each > _MOST for each in sums) else None


def _snapshot(profile: Profile) -> SnapshotRow:
    if any(each.type == _SIZE for each in profile.types):  # others may have it in another place than the last
        profile = choose.with_default(profile, _SIZE)
    shown = profile.types[profile.default]
    return SnapshotRow(
        kind=next((_KINDS[each.type] for each in profile.types if each.type in _KINDS), OTHER),
        types=_names(profile),
        time_ns=profile.time_ns,
        duration_ns=count(profile.duration_ns),
        unit=text(shown.unit),
        total=profile.total(),
        records=len(profile.types),
        profile=pprof.encode(profile),
    )


def _names(profile: Profile) -> str:
    return text(" ".join(each.type for each in profile.types))

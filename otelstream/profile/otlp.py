"""A profile as an OTLP request, and back.

The format is ``opentelemetry.proto.profiles.v1development`` as of OTLP 1.10, whose messages opentelemetry-proto has.
Importing this raises ``ImportError`` where they are missing, or are an earlier draft's, which numbers its fields
otherwise and would be misread.
Source: https://github.com/open-telemetry/opentelemetry-proto, profiles/v1development/profiles.proto
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import ExportProfilesServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.profiles.v1development import profiles_pb2 as pb
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from otelstream import semconv
from otelstream.profile.model import Labels, Profile, Sample, ValueType
from otelstream.profile.otlp_dictionary import COMMENT, Reader, Writer, any_value

if TYPE_CHECKING:
    from opentelemetry.util.types import AttributeValue

RECORDS_LIMIT = 250_000
"""Profiles and samples of a request that are read. An empty one is 2 By, and some 300 when it is read."""
_TYPES_LIMIT = 16
"""Types of one profile; what would be its next one begins another profile."""


def request(
    profile: Profile, resource_attributes: Mapping[str, AttributeValue], version: str
) -> ExportProfilesServiceRequest:
    """``profile`` as a request: one OTLP profile for each of its types, what is 0 left out.

    ``version``: of the instrumentation scope, otelstream.
    """
    made = ExportProfilesServiceRequest()
    tables = Writer(made.dictionary)
    resource = made.resource_profiles.add()
    resource.resource.attributes.extend(
        KeyValue(key=key, value=any_value(value)) for key, value in resource_attributes.items()
    )
    scope = resource.scope_profiles.add(schema_url=semconv.SCHEMA_URL)
    scope.scope.name, scope.scope.version = "otelstream", version
    comments = [tables.attributes[COMMENT, profile.comments]] if profile.comments else []
    rows = [
        (tables.stacks[sample.stack or None], *tables.of_labels(sample.labels), sample.values)
        for sample in profile.samples
    ]
    for at, kind in enumerate(profile.types):
        one = scope.profiles.add(
            sample_type=tables.value_type(kind),
            period_type=tables.value_type(profile.period_type),
            period=profile.period,
            time_unix_nano=profile.time_ns,
            duration_nano=profile.duration_ns,
            attribute_indices=comments,
        )
        for stack, attributes, link, values in rows:
            if values[at]:
                one.samples.add(
                    stack_index=stack, attribute_indices=attributes, link_index=link, values=values[at : at + 1]
                )
    return made


def profiles(request: ExportProfilesServiceRequest) -> list[tuple[Resource, Profile]]:
    """The profiles of ``request`` and what each is of.

    OTLP profiles of one scope with the same time, duration and period are one profile of several types. Raises
    ``ValueError`` with one sentence, without a full stop, when ``request`` makes no sense or is too much to read.
    """
    reader = Reader(request.dictionary)
    found: list[tuple[Resource, Profile]] = []
    records = 0
    for each in request.resource_profiles:
        joined: list[_Joined] = []
        for scope in each.scope_profiles:
            by_key: dict[tuple[ValueType, int, int, int], _Joined] = {}
            for one in scope.profiles:
                records += 1 + len(one.samples)
                if records > RECORDS_LIMIT:
                    raise ValueError(f"there are more than {RECORDS_LIMIT:,} profiles and samples")
                key = reader.value_type(one.period_type), one.period, one.time_unix_nano, one.duration_nano
                kind = reader.value_type(one.sample_type)
                into = by_key.get(key)
                if into is None or kind in into.types or len(into.types) == _TYPES_LIMIT:
                    into = by_key[key] = _Joined(*key, comments=reader.comments(one.attribute_indices))
                    joined.append(into)
                into.add(kind, one.samples, reader)
        if joined:
            resource = reader.resource(each.resource)
            found += [(resource, profile.whole()) for profile in joined]
    return found


class _Joined:
    """OTLP profiles, of one type each, on their way to one profile."""

    def __init__(
        self, period_type: ValueType, period: int, time_ns: int, duration_ns: int, *, comments: tuple[str, ...]
    ) -> None:
        self.types: list[ValueType] = []
        self._whole = Profile((), (), period_type, period, time_ns, duration_ns, comments)
        self._rows: dict[tuple[int, Labels], tuple[Sample, list[int]]] = {}

    def add(self, kind: ValueType, samples: Sequence[pb.Sample], reader: Reader) -> None:
        """Add an OTLP profile of type ``kind``."""
        at = len(self.types)
        self.types.append(kind)
        for sample in samples:
            row = sample.stack_index, reader.labels(sample.attribute_indices, sample.link_index)
            if row not in self._rows:
                self._rows[row] = Sample(reader.stack(sample.stack_index), (), row[1]), []
            values = self._rows[row][1]
            values += [0] * (at + 1 - len(values))
            values[at] += _value(sample)

    def whole(self) -> Profile:
        """The profile of all types."""
        samples = (
            sample._replace(values=(*values, *[0] * (len(self.types) - len(values))))
            for sample, values in self._rows.values()
        )
        return replace(self._whole, types=tuple(self.types), samples=tuple(samples))


def _value(sample: pb.Sample) -> int:
    """What happened at several times is added up; without values, each time counts 1."""
    values, times = sample.values, sample.timestamps_unix_nano
    if values and times and len(values) != len(times):
        raise ValueError(f"a sample has {len(values)} values at {len(times)} times")
    return sum(values) if values else len(times)

"""pprof's file format: round trips, what Google's own protobuf reads in it, what Go writes, and what is damaged."""

from __future__ import annotations

import gzip
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given
from hypothesis import strategies as st

from otelstream.profile import pprof
from otelstream.profile.model import Frame, Profile, Sample, ValueType
from tests.heap_profiles import AFTER, BEFORE, KEEP, OBJECTS, SERVE, SPACE, TALK, TALK_1, TIME_NS, heap, profiles

# profile.proto: per message its fields, as (name, number, type), with * where there may be several.
PROTO = {
    "Profile": "sample_type 1 *ValueType, sample 2 *Sample, mapping 3 *Mapping, location 4 *Location, "
    "function 5 *Function, string_table 6 *string, drop_frames 7 int64, keep_frames 8 int64, time_nanos 9 int64, "
    "duration_nanos 10 int64, period_type 11 ValueType, period 12 int64, comment 13 *int64, "
    "default_sample_type 14 int64",
    "ValueType": "type 1 int64, unit 2 int64",
    "Sample": "location_id 1 *uint64, value 2 *int64, label 3 *Label",
    "Label": "key 1 int64, str 2 int64, num 3 int64, num_unit 4 int64",
    "Mapping": "id 1 uint64, memory_start 2 uint64, memory_limit 3 uint64, file_offset 4 uint64, filename 5 int64, "
    "build_id 6 int64, has_functions 7 bool, has_filenames 8 bool, has_line_numbers 9 bool, has_inline_frames 10 bool",
    "Location": "id 1 uint64, mapping_id 2 uint64, address 3 uint64, line 4 *Line, is_folded 5 bool",
    "Line": "function_id 1 uint64, line 2 int64, column 3 int64",
    "Function": "id 1 uint64, name 2 int64, system_name 3 int64, filename 4 int64, start_line 5 int64",
}


def generated(name: str, *, packed: bool = True) -> Any:
    """The class of a message of profile.proto, in a descriptor pool of its own."""
    file = descriptor_pb2.FileDescriptorProto(name="profile.proto", package="perftools.profiles", syntax="proto3")
    scalar = {"int64": 3, "uint64": 4, "bool": 8, "string": 9}
    for message, fields in PROTO.items():
        made = file.message_type.add(name=message)
        for field in fields.split(", "):
            field_name, number, kind = field.split(" ")
            added = made.field.add(name=field_name, number=int(number), label=3 if kind.startswith("*") else 1)
            added.type = scalar.get(kind.strip("*"), 11)
            if added.type == 11:
                added.type_name = f".perftools.profiles.{kind.strip('*')}"
            elif added.label == 3 and added.type != 9:
                added.options.packed = packed
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"perftools.profiles.{name}"))


MESSAGE = generated("Profile")


def parsed(profile: Profile) -> Any:
    return MESSAGE.FromString(gzip.decompress(pprof.encode(profile)))


def test_the_same_profile_is_the_same_file() -> None:
    assert pprof.encode(BEFORE) == pprof.encode(BEFORE)


@given(profiles())
def test_what_is_written_is_read_back(profile: Profile) -> None:
    assert pprof.decode(pprof.encode(profile)) == profile


@given(profiles())
def test_googles_protobuf_reads_and_writes_the_same(profile: Profile) -> None:
    assert pprof.decode(parsed(profile).SerializeToString()) == profile


def test_the_file_says_what_pprof_wants_to_know() -> None:
    message = parsed(replace(BEFORE, comments=("a", "b")))
    text = message.string_table
    assert text[0] == ""
    assert len(set(text)) == len(text)
    assert [(text[each.type], text[each.unit]) for each in message.sample_type] == [OBJECTS, SPACE]
    assert text[message.default_sample_type] == "inuse_space"
    assert (text[message.period_type.type], message.period, message.time_nanos) == ("inuse_space", 65536, TIME_NS)
    assert [text[index] for index in message.comment] == ["a", "b"]
    (mapping,) = message.mapping
    assert mapping.has_functions
    assert mapping.has_filenames
    assert mapping.has_line_numbers
    assert (mapping.id, text[mapping.filename]) == (1, "python")
    assert {location.mapping_id for location in message.location} == {1}

    functions = {function.id: function for function in message.function}
    lines = {location.id: location.line[0] for location in message.location}
    first = message.sample[0]
    stack = [(functions[lines[id_].function_id], lines[id_].line) for id_ in first.location_id]
    read = [Frame(text[function.name], text[function.filename], line, function.start_line) for function, line in stack]
    assert read == [KEEP, TALK, SERVE]
    assert list(first.value) == [4, 400 * 1024]
    assert tuple((text[label.key], text[label.str]) for label in first.label) == TALK_1
    assert len(message.location) == len(message.function) == 4


def test_two_lines_of_one_function_are_two_locations_of_it() -> None:
    message = parsed(heap(Sample((KEEP, KEEP._replace(line=53)), (1, 1))))
    assert (len(message.location), len(message.function)) == (2, 1)


def test_a_name_that_is_no_utf8_does_not_spoil_the_file() -> None:
    assert pprof.decode(pprof.encode(heap(Sample((Frame("f", "\udcff.py", 1),), (1, 1))))).samples[0].stack == (
        Frame("f", "\\udcff.py", 1),
    )


def test_a_label_without_a_value_is_none() -> None:
    assert pprof.decode(pprof.encode(heap(Sample((KEEP,), (1, 1), (("thread", ""),))))).samples[0].labels == ()


# What others write

STRINGS = ["", "cpu", "nanoseconds", "samples", "count", "outer", "inlined", "a.go", "bytes", "pid", "sys"]


def of_go(*, packed: bool = True) -> Any:
    """With what otelstream does not write: inlined lines, numbers as labels, two mappings, another default."""
    made = generated("Profile", packed=packed)(string_table=STRINGS, period=100, default_sample_type=1)
    made.sample_type.add(type=1, unit=2)
    made.sample_type.add(type=3, unit=4)
    made.mapping.add(id=1, memory_start=0x400000)
    made.mapping.add(id=2, memory_start=0x7F0000000000)
    made.function.add(id=7, name=5, filename=7, start_line=2)
    made.function.add(id=300, system_name=6, filename=7)
    location = made.location.add(id=9000, mapping_id=1, address=0x401234, is_folded=True)
    location.line.add(function_id=300, line=20)
    location.line.add(function_id=7, line=3)
    made.location.add(id=2, mapping_id=2, address=2**64 - 1)
    sample = made.sample.add(location_id=[9000, 2], value=[-5, 2**40])
    sample.label.add(key=9, num=42)
    sample.label.add(key=8, num=512, num_unit=8)
    return made


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    "compress", [gzip.compress, bytes, lambda data: gzip.compress(data[:9]) + gzip.compress(data[9:])]
)
def test_what_go_writes_is_read(packed: bool, compress: Any) -> None:
    read = pprof.decode(compress(of_go(packed=packed).SerializeToString()))
    assert read.types == (ValueType("samples", "count"), ValueType("cpu", "nanoseconds"))  # its default is last
    stack = (Frame("inlined", "a.go", 20), Frame("outer", "a.go", 3, 2), Frame("0xffffffffffffffff", "", 0))
    assert read.samples == (Sample(stack, (2**40, -5), (("bytes", "512 bytes"), ("pid", "42"))),)
    assert (read.period, read.period_type, read.comments) == (100, ValueType("", ""), ())


def test_fields_of_a_later_version_are_passed_over() -> None:
    later = b"\x99\x06" + bytes(8) + b"\xa5\x06" + bytes(4) + b"\xa8\x06\x01" + b"\xb2\x06\x02ab"  # 99 to 102
    assert pprof.decode(gzip.decompress(pprof.encode(BEFORE)) + later) == BEFORE


# What is damaged


def spoiled(**fields: Any) -> bytes:
    """A good profile with ``fields`` of its message, or of the first of its kind, set."""
    made = of_go()
    for path, value in fields.items():
        *kinds, name = path.split("__")
        target = made
        for kind in kinds:
            target = getattr(target, kind)[0]
        if isinstance(value, list):
            del getattr(target, name)[:]
            getattr(target, name).extend(value)
        else:
            setattr(target, name, value)
    return bytes(made.SerializeToString())


WHOLE = gzip.decompress(pprof.encode(AFTER))
DAMAGED = {
    "nothing": (b"", "its table of strings does not begin with the empty one"),
    "text": (b"<html>", "field 7 is of wire type 4"),
    "cut compression": (pprof.encode(AFTER)[:-9], "its compressed data are cut off"),
    "damaged compression": (b"\x1f\x8b" + b"x" * 40, "its compressed data are damaged"),
    "more after it": (pprof.encode(AFTER) + b"more", "something else follows its compressed data"),
    "a cut field": (WHOLE[:-3], "field 6 is cut off"),
    "a cut number": (WHOLE + b"\x48\xff", "a number is cut off or too long"),
    "an endless number": (WHOLE + b"\x48" + b"\xff" * 20, "a number is cut off or too long"),
    "a number for a message": (WHOLE + b"\x10\x01", "field 2 is a number"),
    "no types": (spoiled(sample_type=[]), "it does not say what it counts"),
    "no empty string": (spoiled(string_table=["cpu"]), "its table of strings does not begin with the empty one"),
    "no such string": (spoiled(function__name=11), "string 11 is named, and there is none"),
    "a string below 0": (spoiled(function__name=-1), "string -1 is named, and there is none"),
    "no such function": (spoiled(location__line__function_id=8), "function 8 is named, and there is none"),
    "no such location": (spoiled(sample__location_id=[3]), "location 3 is named, and there is none"),
    "too few values": (spoiled(sample__value=[1]), "a sample has 1 numbers and not 2"),
    "a long name": (spoiled(string_table=[*STRINGS, "x" * 65537]), "a name in it is longer than 64 KiB"),
}


@pytest.mark.parametrize(("data", "why"), DAMAGED.values(), ids=DAMAGED.keys())
def test_what_is_damaged_is_refused_in_one_sentence(data: bytes, why: str) -> None:
    with pytest.raises(ValueError, match="this is no pprof profile: ") as caught:
        pprof.decode(data)
    assert why in str(caught.value)


def test_a_small_file_that_grows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pprof, "LARGEST", 1 << 20)
    for data in (gzip.compress(bytes(1 << 21)), gzip.compress(bytes(1 << 19)) * 3, bytes((1 << 20) + 1)):
        with pytest.raises(ValueError, match="it has more than 1 MiB"):
            pprof.decode(data)


def test_stacks_that_grow_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pprof, "_FRAMES", 10)
    data = spoiled(sample__location_id=[9000] * 6)  # two lines each
    with pytest.raises(ValueError, match="its stacks have more than 10 frames"):
        pprof.decode(data)


@given(st.data())
def test_any_damage_is_a_value_error_or_another_profile(data: st.DataObject) -> None:
    damaged = bytearray(WHOLE)
    for at in data.draw(st.lists(st.integers(0, len(WHOLE) - 1), min_size=1, max_size=3)):
        damaged[at] = data.draw(st.integers(0, 255))
    with suppress(ValueError):
        assert isinstance(pprof.decode(bytes(damaged)), Profile)

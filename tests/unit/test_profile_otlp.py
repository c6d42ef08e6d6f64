"""Profiles as OTLP requests: the tables by hand, the way back, and requests that make no sense."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelstream.profile import model
from otelstream.profile.model import Frame, Profile, Sample, ValueType

otlp = pytest.importorskip("otelstream.profile.otlp", exc_type=ImportError)
otlp_dictionary = pytest.importorskip("otelstream.profile.otlp_dictionary", exc_type=ImportError)

COUNT, SPACE = ValueType("inuse_objects", "count"), ValueType("inuse_space", "bytes")
READ, SERVE = Frame("Chat.read", "a.py", 3, 1), Frame("serve", "a.py", 9, 8)
CHAT = model.labels(
    {
        "rpc_method": "t.Chat/Talk",
        "rpc_side": "server",
        "memory_kind": "protobuf",
        "trace_id": "ab" * 16,
        "span_id": "cd" * 8,
    }
)
HEAP = Profile(
    types=(COUNT, SPACE),
    samples=(Sample((READ, SERVE), (2, 20), CHAT), Sample((SERVE,), (0, 5))),
    period_type=ValueType("space", "bytes"),
    period=65536,
    time_ns=1_700_000_000_000_000_000,
    comments=("Sampled.", "Every 64 KiB."),
)


def sent(profile: Profile, **resource: Any) -> Any:
    """The request as it arrives."""
    made = otlp.request(profile, resource, "1.2.3")
    return type(made).FromString(made.SerializeToString())


def back(profile: Profile) -> list[Profile]:
    return [each for _, each in otlp.profiles(sent(profile))]


# What is sent


def test_every_table_starts_with_its_null_entry_and_has_everything_once() -> None:
    tables = sent(HEAP).dictionary

    assert tables.string_table[0] == ""
    assert len(set(tables.string_table)) == len(tables.string_table)
    for name in ("mapping", "location", "function", "link", "attribute", "stack"):
        entries = [entry.SerializeToString() for entry in getattr(tables, f"{name}_table")]
        assert entries[0] == b"", name
        assert len(set(entries)) == len(entries), name
    assert [len(tables.location_table), len(tables.function_table), len(tables.stack_table)] == [3, 3, 3]


def test_a_stack_is_its_lines_innermost_first() -> None:
    request = sent(HEAP)
    tables, text = request.dictionary, request.dictionary.string_table
    sample = request.resource_profiles[0].scope_profiles[0].profiles[0].samples[0]

    locations = [tables.location_table[at] for at in tables.stack_table[sample.stack_index].location_indices]
    functions = [tables.function_table[location.lines[0].function_index] for location in locations]

    assert [location.lines[0].line for location in locations] == [3, 9]
    assert [location.mapping_index for location in locations] == [0, 0]
    assert [text[function.name_strindex] for function in functions] == ["Chat.read", "serve"]
    assert [(text[each.filename_strindex], each.start_line) for each in functions] == [("a.py", 1), ("a.py", 8)]
    (frame_type,) = [tables.attribute_table[at] for at in locations[0].attribute_indices]
    assert (text[frame_type.key_strindex], frame_type.value.string_value) == ("profile.frame.type", "cpython")


def test_labels_are_attributes_by_their_conventional_names_and_the_stream_span_is_a_link() -> None:
    request = sent(HEAP)
    tables = request.dictionary
    first, second = request.resource_profiles[0].scope_profiles[0].profiles[1].samples

    attributes = [tables.attribute_table[at] for at in first.attribute_indices]

    assert {tables.string_table[each.key_strindex]: each.value.string_value for each in attributes} == {
        "rpc.method": "t.Chat/Talk",
        "otelstream.side": "server",
        "otelstream.memory.kind": "protobuf",
    }
    link = tables.link_table[first.link_index]
    assert (link.trace_id.hex(), link.span_id.hex()) == ("ab" * 16, "cd" * 8)
    assert (list(second.attribute_indices), second.link_index) == ([], 0)


def test_each_type_is_a_profile_without_what_is_0_for_it() -> None:
    request = sent(HEAP)
    text = request.dictionary.string_table
    count, space = request.resource_profiles[0].scope_profiles[0].profiles

    assert [text[each.sample_type.type_strindex] for each in (count, space)] == ["inuse_objects", "inuse_space"]
    assert [[list(sample.values) for sample in each.samples] for each in (count, space)] == [[[2]], [[20], [5]]]
    for each in (count, space):
        assert (text[each.period_type.type_strindex], text[each.period_type.unit_strindex]) == ("space", "bytes")
        assert (each.period, each.time_unix_nano, each.duration_nano) == (65536, HEAP.time_ns, 0)
        assert (each.original_payload_format, each.original_payload) == ("", b"")


def test_the_resource_and_the_scope_say_whose_profile_it_is() -> None:
    request = sent(HEAP, **{"service.name": "chat", "process.pid": 7, "host.ip": ["::1"], "a": True, "b": 0.5})
    (resource,) = request.resource_profiles
    found = {each.key: each.value for each in resource.resource.attributes}

    assert (found["service.name"].string_value, found["process.pid"].int_value) == ("chat", 7)
    assert [value.string_value for value in found["host.ip"].array_value.values] == ["::1"]
    assert (found["a"].bool_value, found["b"].double_value) == (True, 0.5)
    assert (resource.scope_profiles[0].scope.name, resource.scope_profiles[0].scope.version) == ("otelstream", "1.2.3")


def test_a_file_name_that_is_no_text_does_not_keep_the_profile_from_being_sent() -> None:
    odd = replace(HEAP, samples=(Sample((Frame("f", "\udcff.py", 1),), (1, 1)),))
    (found,) = back(odd)
    assert found.samples[0].stack[0].file == "?.py"


# There and back

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
lines = st.integers(0, 2**31)
frames = st.builds(Frame, words, words, lines, lines)
ids = st.one_of(st.tuples(st.binary(min_size=16, max_size=16), st.binary(min_size=8, max_size=8)), st.none())
names = st.one_of(st.sampled_from(sorted(otlp_dictionary.ATTRIBUTES)), words).filter(
    lambda name: name not in otlp_dictionary.ATTRIBUTES.values()
)


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    kinds = draw(st.lists(st.builds(ValueType, words, words), min_size=1, max_size=3, unique=True))

    def sample() -> Sample:
        pairs = draw(st.dictionaries(names, words, max_size=3))
        found = draw(ids)
        if found is not None:
            pairs |= {"trace_id": found[0].hex(), "span_id": found[1].hex()}
        stack = draw(st.lists(st.sampled_from(known), max_size=4))
        values = draw(st.tuples(*[st.integers(-(2**62), 2**62)] * len(kinds)))
        return Sample(tuple(stack), values, tuple(sorted(pairs.items())))

    known = draw(st.lists(frames, min_size=1, max_size=4))
    samples = model.merged(sample() for _ in range(draw(st.integers(0, 4))))
    return Profile(
        types=tuple(kinds),
        samples=tuple(each for each in samples if all(abs(value) < 2**63 for value in each.values)),
        period_type=draw(st.builds(ValueType, words, words)),
        period=draw(st.integers(0, 2**62)),
        time_ns=draw(st.integers(0, 2**63)),
        duration_ns=draw(st.integers(0, 2**63)),
        comments=tuple(draw(st.lists(words, max_size=2))),
    )


@given(profiles())
def test_what_arrives_is_what_was_sent(profile: Profile) -> None:
    (found,) = back(profile)

    assert set(found.samples) == set(profile.samples)
    assert len(found.samples) == len(profile.samples)
    assert replace(found, samples=()) == replace(profile, samples=())


@pytest.mark.parametrize("odd", ["", "ab", "AB" * 16, "zz" * 16])
def test_ids_that_are_no_span_stay_labels(odd: str) -> None:
    labels = tuple(sorted({"trace_id": odd, "span_id": "cd" * 8}.items()))
    profile = replace(HEAP, samples=(Sample((READ,), (1, 1), labels),))
    assert back(profile) == [profile]
    assert len(sent(profile).dictionary.link_table) == 1


def test_a_type_that_comes_again_or_at_another_time_is_another_profile() -> None:
    request = sent(HEAP)
    profiles = request.resource_profiles[0].scope_profiles[0].profiles
    profiles.MergeFrom(list(profiles))
    profiles[3].time_unix_nano += 1

    first, second, third = (each for _, each in otlp.profiles(request))

    assert first == HEAP
    assert (second.types, third.types) == ((COUNT,), (SPACE,))
    assert third.time_ns == HEAP.time_ns + 1


def test_a_profile_has_at_most_16_types() -> None:
    kinds = tuple(ValueType(f"kind {number}", "count") for number in range(17))
    first, second = back(replace(HEAP, types=kinds, samples=(Sample((READ,), (1,) * 17),)))
    assert (first.types, second.types) == (kinds[:16], kinds[16:])


# Others' requests


def test_the_collectors_references_into_the_table_of_strings_are_resolved() -> None:
    request = sent(HEAP)
    text = request.dictionary.string_table
    text.extend(["service.name", "chat", "::1"])
    end = len(text)
    attribute = request.resource_profiles[0].resource.attributes.add(key_strindex=end - 3)
    attribute.value.string_value_strindex = end - 2
    several = request.resource_profiles[0].resource.attributes.add(key="host.ip")
    several.value.array_value.values.add().string_value_strindex = end - 1
    request.dictionary.attribute_table[-1].value.string_value_strindex = end - 2

    ((resource, profile),) = otlp.profiles(request)

    assert [each.key for each in resource.attributes] == ["service.name", "host.ip"]
    assert resource.attributes[0].value.string_value == "chat"
    assert resource.attributes[1].value.array_value.values[0].string_value == "::1"
    assert "chat" in dict(profile.samples[0].labels).values()


def test_several_observations_of_one_stack_are_added_up() -> None:
    request = sent(replace(HEAP, types=(SPACE,), samples=(Sample((READ,), (1,)), Sample((SERVE,), (1,)))))
    one, other = request.resource_profiles[0].scope_profiles[0].profiles[0].samples
    one.ClearField("values")
    one.timestamps_unix_nano.extend([5, 6, 7])
    other.values.extend([4, -2])

    ((_, profile),) = otlp.profiles(request)

    assert [sample.values for sample in profile.samples] == [(3,), (3,)]


def test_inlined_functions_and_code_without_symbols_are_frames_too() -> None:
    request = sent(HEAP)
    tables = request.dictionary
    tables.string_table.extend(["libssl.so", "_ZN4Chat4readEv"])
    tables.mapping_table.add(filename_strindex=len(tables.string_table) - 2)
    tables.function_table[1].name_strindex = 0
    tables.function_table[1].system_name_strindex = len(tables.string_table) - 1
    location = tables.location_table[1]
    location.lines.add(function_index=2, line=90)
    tables.location_table[2].Clear()
    tables.location_table[2].address = 0xBEEF
    tables.location_table[2].mapping_index = 1

    ((_, profile),) = otlp.profiles(request)

    mangled, inlined = READ._replace(function="_ZN4Chat4readEv"), Frame("serve", "a.py", 90, 8)
    assert profile.samples[0].stack == (mangled, inlined, Frame("0xbeef", "libssl.so", 0))


def test_numbers_and_truths_are_labels_as_text_and_bytes_are_none() -> None:
    labels = (("a", "1"), ("b", "2"), ("c", "3"))
    request = sent(replace(HEAP, samples=(Sample((), (1, 1), labels),)))
    _null, _comments, first, second, third = request.dictionary.attribute_table
    first.value.int_value, second.value.bool_value, third.value.bytes_value = 7, True, b"3"

    ((_, profile),) = otlp.profiles(request)

    assert profile.samples[0].labels == (("a", "7"), ("b", "true"))


def first_profile(request: Any) -> Any:
    return request.resource_profiles[0].scope_profiles[0].profiles[0]


NONSENSE: dict[str, tuple[Callable[[Any], object], str]] = {
    "stack": (
        lambda request: setattr(first_profile(request).samples[0], "stack_index", 99),
        "there is no stack 99: its dictionary has 3",
    ),
    "below 0": (
        lambda request: setattr(first_profile(request).samples[0], "stack_index", -1),
        "there is no stack -1: its dictionary has 3",
    ),
    "location": (
        lambda request: request.dictionary.stack_table[1].location_indices.append(9),
        "there is no location 9: its dictionary has 3",
    ),
    "function": (
        lambda request: setattr(request.dictionary.location_table[1].lines[0], "function_index", 9),
        "there is no function 9: its dictionary has 3",
    ),
    "mapping": (
        lambda request: request.dictionary.location_table[1].ParseFromString(bytes([1 << 3, 4])),
        "there is no mapping 4: its dictionary has 1",
    ),
    "attribute": (
        lambda request: first_profile(request).samples[0].attribute_indices.append(77),
        "there is no attribute 77: its dictionary has 6",
    ),
    "link": (
        lambda request: setattr(first_profile(request).samples[0], "link_index", 5),
        "there is no link 5: its dictionary has 2",
    ),
    "string": (
        lambda request: setattr(first_profile(request).sample_type, "unit_strindex", 1000),
        "there is no string 1000: its dictionary has 14",
    ),
    "a short id": (
        lambda request: setattr(request.dictionary.link_table[1], "span_id", b"123"),
        "link 1 has ids of 16 and 3 bytes: they have 16 and 8",
    ),
    "values and times": (
        lambda request: first_profile(request).samples[0].timestamps_unix_nano.extend([1, 2]),
        "a sample has 1 values at 2 times",
    ),
}


@pytest.mark.parametrize(("spoil", "says"), NONSENSE.values(), ids=NONSENSE.keys())
def test_nonsense_is_refused_with_one_sentence(spoil: Callable[[Any], object], says: str) -> None:
    request = sent(HEAP)
    spoil(request)
    with pytest.raises(ValueError, match=f"^{says}$"):
        otlp.profiles(request)


LIMITS: dict[str, tuple[Any, str, int, str]] = {
    "samples": (otlp, "RECORDS_LIMIT", 4, "there are more than 4 profiles and samples"),
    "frames": (otlp_dictionary, "_FRAMES_LIMIT", 2, "the stacks of its samples have more than 2 frames"),
    "one stack": (otlp_dictionary, "_FRAMES_LIMIT", 1, "the stacks of its samples have more than 1 frames"),
    "entries": (
        otlp_dictionary,
        "_ENTRIES_LIMIT",
        6,
        "its dictionary has more than 6 lines of code and attributes",
    ),
    "resource": (otlp_dictionary, "_RESOURCE_LIMIT", 35, "its resources have attributes of more than 35 bytes"),
}


@pytest.mark.parametrize(("module", "limit", "value", "says"), LIMITS.values(), ids=LIMITS.keys())
def test_what_is_too_much_is_refused(
    module: Any, limit: str, value: int, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, limit, value)
    with pytest.raises(ValueError, match=f"^{says}$"):
        otlp.profiles(sent(HEAP, name="x" * 30))


def test_one_string_that_many_attributes_mean_is_counted_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp_dictionary, "_RESOURCE_LIMIT", 1000)
    request = sent(HEAP)
    request.dictionary.string_table.append("x" * 400)
    values = request.resource_profiles[0].resource.attributes.add(key="a").value.array_value.values
    for _ in range(3):
        values.add().string_value_strindex = len(request.dictionary.string_table) - 1
    with pytest.raises(ValueError, match="attributes of more than 1,000 bytes"):
        otlp.profiles(request)


def test_no_more_is_read_once_it_is_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp_dictionary, "_FRAMES_LIMIT", 3)
    request = sent(HEAP)
    request.dictionary.stack_table[1].location_indices.extend([1, 1, 99])
    with pytest.raises(ValueError, match="more than 3 frames"):
        otlp.profiles(request)

    monkeypatch.setattr(otlp_dictionary, "_RESOURCE_LIMIT", 3)
    request = sent(HEAP, a=["four", "x"])
    request.resource_profiles[0].resource.attributes[0].value.array_value.values[1].string_value_strindex = 99
    with pytest.raises(ValueError, match="more than 3 bytes"):
        otlp.profiles(request)


@given(st.data())
def test_whatever_a_request_says_it_is_read_or_refused(data: st.DataObject) -> None:
    body = bytearray(otlp.request(HEAP, {"a": "b"}, "1").SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    request = type(sent(HEAP))()
    try:
        request.ParseFromString(bytes(body))
    except Exception:  # noqa: BLE001  # protobuf's to refuse
        return
    try:
        found = otlp.profiles(request)
    except ValueError as error:
        assert str(error)
    else:
        assert all(len(sample.values) == len(each.types) for _, each in found for sample in each.samples)

"""Everything about one stream, from the spans that were kept."""

from __future__ import annotations

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otelstream.view.model import StreamDetail
from tests.unit.view.filled import T0, Filled, ns


def span(*events: tuple[str, float], **attributes: AnyValue) -> bytes:
    made = Span(attributes=[KeyValue(key=name.replace("__", "."), value=value) for name, value in attributes.items()])
    for name, time in events:
        attribute = KeyValue(key="rpc.message.id", value=AnyValue(int_value=3))
        made.events.append(Span.Event(name=name, time_unix_nano=ns(time), attributes=[attribute]))
    return made.SerializeToString()


def text(value: str) -> AnyValue:
    return AnyValue(string_value=value)


def read(filled: Filled, stream: int) -> StreamDetail:
    found = filled.reader().stream(stream)
    assert found is not None
    return found


def test_an_open_stream(filled: Filled) -> None:
    process = filled.process(arrived=600, attributes='{"host.name": "a"}')
    stream = filled.stream(process, start=0, seen=30, due=9999, deadline=2.5)
    for number in (1, 2):
        window = filled.window(
            stream, 10 * number, 10 * number + 10, number, sent=number, received_bytes=5, idle=0.5, memory=7, delta=-2,
            retained=1,
        )  # fmt: skip
        unlisted = AnyValue(int_value=number)
        kept = span(("rpc.message", 10 * number + 1), otelstream__messages__unlisted=unlisted, a=text(f"w{number}"))
        filled.insert("window_span", window=window, span=kept)
    found = read(filled, stream)
    assert (found.row.id, found.row.state, found.row.age) == (stream, "open", 600)
    assert found.attributes == {"otelstream.messages.unlisted": 2, "a": "w2"}
    assert found.resource == {"host.name": "a"}
    assert (found.windows_total, found.deadline, found.events, found.finding) == (2, 2.5, [], None)
    newest, first = found.windows
    assert (newest.number, newest.start, newest.end, newest.sent, newest.unlisted) == (2, T0 + 20, T0 + 30, 2, 2)
    assert (first.received_bytes, first.idle, first.memory, first.memory_delta, first.retained) == (5, 0.5, 7, -2, 1)
    assert [(each.time, each.name, each.attributes) for each in first.events] == [
        (T0 + 11, "rpc.message", {"rpc.message.id": 3})
    ]


def test_one_that_has_ended(filled: Filled) -> None:
    stream = filled.stream(filled.process(), start=0, end=50, sent=10, received_bytes=900)
    filled.window(stream, 0, 30, sent=4, received_bytes=100)
    values = ArrayValue(values=[text("a"), AnyValue(int_value=2)])
    kept = span(("rpc.message", 41), ("exception", 49), list=AnyValue(array_value=values), b=AnyValue(bytes_value=b"x"))
    filled.insert("stream_span", stream=stream, span=kept)
    found = read(filled, stream)
    assert found.attributes == {"list": ["a", 2], "b": "eA=="}
    assert [event.name for event in found.events] == ["rpc.message", "exception"]
    rest, window = found.windows
    assert (rest.number, rest.start, rest.end, rest.sent, rest.received_bytes) == (0, T0 + 30, T0 + 50, 6, 800)
    assert (window.number, found.windows_total) == (1, 2)


def test_what_windows_carried_that_never_came_is_not_of_the_last(filled: Filled) -> None:
    stream = filled.stream(filled.process(), start=0, end=50, sent=100, received=7)
    window = filled.window(stream, 30, 40, 4, sent=10)
    kept = span(grpc__sent__message_count=AnyValue(int_value=90))
    filled.insert("window_span", window=window, span=kept)
    rest = read(filled, stream).windows[0]
    assert (rest.number, rest.sent, rest.received) == (0, 10, 7)


def test_one_without_windows(filled: Filled) -> None:
    found = read(filled, filled.stream(filled.process(), start=0, end=50, sent=10))
    assert (found.windows, found.windows_total, found.events, found.attributes) == ([], 0, [], {})


def test_the_newest_windows_of_very_many(filled: Filled) -> None:
    stream = filled.stream(filled.process(), start=0, seen=300)
    for number in range(300):
        filled.window(stream, number, number + 1, number + 1)
    found = read(filled, stream)
    assert [window.number for window in found.windows] == list(range(300, 100, -1))
    assert found.windows_total == 300


def test_a_span_that_is_not_legible_is_empty(filled: Filled) -> None:
    stream = filled.stream(filled.process(), start=0, end=50)
    filled.insert("stream_span", stream=stream, span=b"\xff\xff")
    assert (read(filled, stream).attributes, read(filled, stream).events) == ({}, [])


def test_traces_that_it_goes_on_in(filled: Filled) -> None:
    stream = filled.stream(filled.process(), start=0, end=50)
    filled.insert("continuation", trace_id=b"\xee" * 16, stream=stream)
    filled.insert("continuation", trace_id=b"\xdd" * 16, stream=stream + 1)
    found = read(filled, stream)
    assert found.traces == [found.row.trace_id, "ee" * 16]


def test_the_leak_of_its_method(filled: Filled) -> None:
    process, other = filled.process(), filled.process()
    stream = filled.stream(process, start=0, end=500)
    filled.finding(other, first=10, last=20)
    filled.finding(process, first=10, last=20, method="shop.Feed/Buy")
    filled.finding(process, "native_growth", first=10, last=20, method="", side="")
    assert read(filled, stream).finding is None
    filled.finding(process, first=510, last=520)
    assert read(filled, stream).finding is None
    filled.finding(process, "stream_not_closed", first=450, last=560)
    found = read(filled, stream).finding
    assert found is not None
    assert (found.process, found.kind) == (process, "stream_not_closed")


def test_one_that_is_not_there(filled: Filled) -> None:
    assert filled.reader().stream(1) is None

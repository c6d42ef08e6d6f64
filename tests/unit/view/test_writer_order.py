"""Whatever the order in which spans come, and however often, the same is in the file."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.unit.view.capture import Capture, capture_at
from tests.unit.view.messages import STREAM, interval_span, link, stream_span

NEXT, LAST = b"U" * 16, b"V" * 16
OTHER = b"O" * 8


def spans_of_a_long_stream() -> list[Span]:
    """Four intervals, then a new trace with three, another with two, and the end."""
    second = interval_span(5, trace_id=NEXT, parent_span_id=b"", links=[link()])
    third = interval_span(8, trace_id=LAST, parent_span_id=b"", links=[link()])
    return [
        *(interval_span(number) for number in range(1, 5)),
        second,
        *(interval_span(number, trace_id=NEXT, parent_span_id=second.span_id) for number in (6, 7)),
        third,
        interval_span(9, trace_id=LAST, parent_span_id=third.span_id),
        stream_span({"otelstream.messages.retained": 7}, end=95),
    ]


SPANS = [
    *spans_of_a_long_stream(),
    *(interval_span(number, span_id=bytes([number]) * 8, parent_span_id=OTHER) for number in (1, 2)),
]
OF_STREAMS = (
    "SELECT trace_id, span_id, method, side, type, peer, start_ns, end_ns, seen_ns, due_ns, outcome, code,"
    " sent, received, sent_bytes, received_bytes, active_ns, deadline, retained, windows"
    " FROM stream ORDER BY span_id"
)
OF_WINDOWS = (
    "SELECT stream.span_id, window.span_id, number, window.start_ns, window_span.span FROM window"
    " JOIN stream ON stream.id = window.stream JOIN window_span ON window_span.window = window.id ORDER BY 1, 3"
)


def contents(capture: Capture) -> Any:
    return capture.rows(OF_STREAMS), capture.rows(OF_WINDOWS), capture.one("SELECT count(*) FROM stream_span")


def after(*requests: list[Span]) -> Any:
    with tempfile.TemporaryDirectory() as folder, capture_at(Path(folder) / "capture.db") as capture:
        for spans in requests:
            capture.send(*spans)
        assert capture.one("SELECT count(*) FROM window_span") == capture.one("SELECT count(*) FROM window")
        return contents(capture)


@cache
def in_order() -> Any:
    return after(SPANS)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_order_and_repetition_do_not_matter(data: st.DataObject) -> None:
    sent = data.draw(st.permutations(SPANS + data.draw(st.lists(st.sampled_from(SPANS), max_size=6))))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(sent) - 1), max_size=5)))
    requests = [sent[start:end] for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
    assert after(*requests) == in_order()


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_nor_while_the_stream_is_open(data: st.DataObject) -> None:
    still_open = [span for span in SPANS if span.kind == Span.SPAN_KIND_INTERNAL]
    sent = data.draw(st.permutations(still_open))
    streams, windows, ended = after(*([span] for span in sent))
    assert (streams, windows, ended) == after(still_open)
    assert [(row[1], row[7], row[-1]) for row in streams] == [(OTHER, None, 2), (STREAM, None, 9)]

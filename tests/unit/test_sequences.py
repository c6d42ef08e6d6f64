"""Generated sequences of what can happen to some calls, through everything that observes them."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.context import Context

from otelstream.config import Config
from otelstream.metrics import MetricsObserver
from otelstream.observers import Calls, Guard
from otelstream.record import Call, Outcome, RpcType, Side
from otelstream.spans import SpanObserver
from otelstream.testing import FakeClock, Telemetry

CALLS = 3
which = st.integers(0, CALLS - 1)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("end"), which, st.sampled_from(list(Outcome))),
        st.tuples(st.just("send"), which, st.integers(1, 20)),
        st.tuples(st.just("receive"), which, st.integers(1, 20)),
        st.tuples(st.just("interval"), which, st.none()),
        st.tuples(st.just("collect"), which, st.none()),
        st.tuples(st.just("fork"), which, st.none()),
    ),
    min_size=10,
    max_size=60,
)


@settings(deadline=None)
@given(steps)
def test_each_call_is_one_span_and_one_count_and_no_message_is_lost(sequence: list[tuple[str, int, Any]]) -> None:
    telemetry, clock, guard = Telemetry(), FakeClock(), Guard(strict=True)
    spans = SpanObserver(telemetry.tracer_provider.get_tracer("t"), Config(message_events=4), lambda: 0, lambda: 0)
    metrics = MetricsObserver(telemetry.meter_provider.get_meter("t"), clock, guard, lambda: None)
    calls = Calls((spans, metrics), clock, guard, 4)
    known = [Call("a.B/C", Side.SERVER, RpcType.BIDI_STREAM, clock(), message_events=4) for _ in range(CALLS)]
    outcomes, messages = dict[int, Outcome](), Counter[int]()
    for call in known:
        call.context = Context()
        calls.open(call)
    in_this_process = set(range(CALLS))
    for step, index, value in sequence:
        clock.advance(1)
        call = known[index]
        if step == "end":
            calls.end(call, value, None)
            outcomes.setdefault(index, value)
        elif step in ("send", "receive") and call.state.value == "open":
            for _ in range(value):
                (call.sent if step == "send" else call.received).add(10, clock())
            messages[index] += value
        elif step == "interval":
            spans.export_interval(call, clock())
        elif step == "collect":
            telemetry.points("otelstream.streams.open")
        elif step == "fork":  # this goes on as the child: what is open is the parent's
            calls.forget()
            metrics.reset()
            in_this_process = set()
    _check(telemetry, known, outcomes, messages, in_this_process)


def _check(
    telemetry: Telemetry,
    known: list[Call],
    outcomes: dict[int, Outcome],
    messages: Counter[int],
    in_this_process: set[int],
) -> None:
    ended = {index for index in outcomes if known[index].trace is None}
    exported = telemetry.spans.all()
    streams = {span.context.span_id: span for span in exported if span.name == "a.B/C"}
    assert len(streams) == sum(span.name == "a.B/C" for span in exported) == len(ended)
    assert Counter(str((span.attributes or {})["otelstream.outcome"]) for span in streams.values()) == Counter(
        outcomes[index].value for index in ended
    )
    events = sum(len(span.events) for span in exported)
    unlisted = sum(int(str((span.attributes or {}).get("otelstream.messages.unlisted", 0))) for span in exported)
    shown = sum(messages[index] for index in ended)
    assert shown <= events + unlisted <= messages.total()
    assert telemetry.value("otelstream.streams.open") == len(in_this_process - outcomes.keys())
    assert telemetry.value("otelstream.streams.ended") == len(in_this_process & outcomes.keys())
    assert telemetry.value("otelstream.messages") == sum(messages[index] for index in in_this_process)
    assert telemetry.value("otelstream.message.io") == sum(10 * messages[index] for index in in_this_process)

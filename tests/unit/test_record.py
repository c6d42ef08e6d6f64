"""The record by itself: windows, listing, lifecycle."""

from __future__ import annotations

import threading
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelstream.record import Call, Direction, Outcome, RpcType, Side, State, Totals

START = 1_000


def make_call(rpc_type: RpcType = RpcType.BIDI_STREAM, message_events: int = 8) -> Call:
    return Call("pkg.Svc/Method", Side.SERVER, rpc_type, START, message_events=message_events)


def test_a_window_lists_messages_in_the_order_of_their_times() -> None:
    call = make_call()
    call.sent.add(10, 1_001)
    call.received.add(20, 1_002)
    call.sent.add(30, 1_003)
    window = call.take_window(2_000)
    assert [(m.direction, m.id, m.time_ns, m.size) for m in window.messages] == [
        (Direction.SENT, 1, 1_001, 10),
        (Direction.RECEIVED, 1, 1_002, 20),
        (Direction.SENT, 2, 1_003, 30),
    ]
    assert (window.index, window.start_ns, window.end_ns) == (1, START, 2_000)
    assert (window.sent, window.received, window.unlisted) == (Totals(2, 40), Totals(1, 20), 0)


def test_ids_go_on_in_the_next_window() -> None:
    call = make_call()
    for _ in range(20):
        call.sent.add(1, 1_001)
    call.take_window(2_000)
    call.sent.add(1, 2_001)
    window = call.take_window(3_000)
    assert [m.id for m in window.messages] == [21]
    assert (window.index, window.start_ns, window.sent) == (2, 2_000, Totals(1, 1))


def test_the_first_and_the_last_half_are_listed() -> None:
    call = make_call(message_events=8)
    for index in range(100):
        call.sent.add(1, START + index)
    window = call.take_window(2_000)
    assert [m.id for m in window.messages] == [1, 2, 3, 4, 97, 98, 99, 100]
    assert window.unlisted == 92


def test_a_unary_call_lists_nothing() -> None:
    call = make_call(RpcType.UNARY)
    call.sent.add(5, 1_001)
    window = call.take_window(2_000)
    assert (window.messages, window.unlisted, window.sent) == ((), 0, Totals(1, 5))


def test_no_message_events_lists_nothing_but_counts() -> None:
    call = make_call(message_events=0)
    call.sent.add(5, 1_001)
    window = call.take_window(2_000)
    assert (window.messages, window.unlisted, window.sent) == ((), 1, Totals(1, 5))


def test_idle_since_the_last_message_or_the_start() -> None:
    call = make_call()
    assert call.last_activity_ns() == START
    call.received.add(1, 5_000)
    call.sent.add(1, 4_000)
    assert call.last_activity_ns() == 5_000


def test_an_end_before_the_start_is_the_start() -> None:
    call = make_call()
    call.end(Outcome.OK, "OK", START - 500)  # the wall clock was set back
    assert call.end_ns == START


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("OK", Outcome.OK),
        ("CANCELLED", Outcome.CANCELLED),
        ("DEADLINE_EXCEEDED", Outcome.DEADLINE_EXCEEDED),
        ("UNAVAILABLE", Outcome.ERROR),
        (None, Outcome.ERROR),
    ],
)
def test_outcome_of_a_code(code: str | None, outcome: Outcome) -> None:
    assert Outcome.of(code) is outcome


events = st.lists(
    st.one_of(
        st.tuples(st.just("open"), st.none()),
        st.tuples(st.just("end"), st.sampled_from(list(Outcome))),
        st.tuples(st.just("send"), st.integers(0, 1 << 20)),
        st.tuples(st.just("receive"), st.integers(0, 1 << 20)),
        st.tuples(st.just("window"), st.none()),
    )
)


@given(events)
def test_any_sequence_of_events_ends_a_call_at_most_once_and_loses_no_message(
    sequence: list[tuple[str, object]],
) -> None:
    call = make_call(message_events=4)
    ends, states, now = [], [call.state], START
    sent, received = Totals(0, 0), Totals(0, 0)
    windows = []
    for event, value in sequence:
        now += 10
        if event == "open":
            call.open()
        elif event == "end":
            assert isinstance(value, Outcome)
            if call.end(value, None, now):
                ends.append(value)
        elif event == "window":
            windows.append(call.take_window(now))
        else:
            assert isinstance(value, int)
            (call.sent if event == "send" else call.received).add(value, now)
            if event == "send":
                sent = Totals(sent.count + 1, sent.size + value)
            else:
                received = Totals(received.count + 1, received.size + value)
        states.append(call.state)
    windows.append(call.take_window(now))
    first_end = next((value for event, value in sequence if event == "end"), None)
    assert ends == ([] if first_end is None else [first_end])
    assert call.outcome is first_end
    order = list(State)
    assert [order.index(state) for state in states] == sorted(order.index(state) for state in states)
    assert Totals(call.sent.count, call.sent.size) == sent
    assert Totals(call.received.count, call.received.size) == received
    assert sum(w.sent.count for w in windows) == sent.count
    assert sum(w.received.size for w in windows) == received.size
    assert all(len(w.messages) <= 4 for w in windows)
    assert sum(len(w.messages) + w.unlisted for w in windows) == sent.count + received.count


def test_of_many_threads_one_ends_the_call() -> None:
    winners: Counter[bool] = Counter()
    for _ in range(50):
        call = make_call()
        barrier = threading.Barrier(8)

        def end(call: Call = call, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            winners[call.end(Outcome.OK, "OK", 2_000)] += 1

        threads = [threading.Thread(target=end) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert winners[True] == 50

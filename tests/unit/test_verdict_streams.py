"""Streams in trouble: what is wrong with those that are open now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from otelstream.findings import Finding, Kind, OpenStream, Severity
from tests.unit.test_verdict import WHERE, only, samples, stream, talk, verdict


def found(*streams: OpenStream) -> Sequence[Finding]:
    """At the second sample, when no growth is decided yet: the interval is 10 s."""
    judgement = verdict(samples(2), streams)
    assert not judgement.decided
    return judgement.findings


@pytest.mark.parametrize(
    ("kind", "just", "not_yet"),
    [
        (Kind.PEER_GONE, {"call_ended": 20.0}, {"call_ended": 19.9}),
        (Kind.PEER_GONE, {"call_ended": 20.0, "half_closed": True, "idle": 900.0}, {}),
        (Kind.ENDLESS_RECEIVE, {"half_closed": True, "idle": 60.0}, {"half_closed": True, "idle": 59.9}),
        (Kind.PEER_NOT_READING, {"sending_blocked": True, "idle": 60.0}, {"sending_blocked": True, "idle": 59.9}),
        (Kind.STREAM_IDLE, {"idle": 300.0, "age": 300.0}, {"idle": 299.9, "age": 9000.0}),
    ],
)
def test_each_trouble_is_worth_knowing_after_so_many_intervals(
    kind: Kind, just: dict[str, Any], not_yet: dict[str, Any]
) -> None:
    (finding,) = found(stream(**just))
    assert (finding.kind, finding.severity, finding.method, finding.side) == (kind, Severity.INFO, *WHERE)
    assert found(stream(**not_yet)) == ()


@pytest.mark.parametrize(
    ("kind", "state", "time"),
    [
        (Kind.PEER_GONE, {"idle": 900.0}, "call_ended"),
        (Kind.PEER_GONE, {"idle": 0.0}, "call_ended"),
        (Kind.PEER_NOT_READING, {"sending_blocked": True}, "idle"),
    ],
)
def test_a_trouble_is_a_leak_when_one_of_the_streams_is_in_it_for_long(
    kind: Kind, state: dict[str, Any], time: str
) -> None:
    def ill(seconds: float) -> OpenStream:
        return stream(**{**state, time: seconds})

    (slow,) = found(ill(299.9), ill(299.9))
    assert (slow.kind, slow.severity, slow.is_leak) == (kind, Severity.INFO, False)
    for order in ((300.0, 90.0), (90.0, 300.0)):
        (leak,) = found(*map(ill, order))
        assert (leak.kind, leak.severity) == (kind, Severity.WARNING)


def test_what_is_only_idle_is_no_leak_however_long() -> None:
    findings = found(stream(deadline=None, age=1e6, idle=1e6))
    assert {(each.kind, each.severity) for each in findings} == {
        (Kind.STREAM_IDLE, Severity.INFO),
        (Kind.NO_DEADLINE, Severity.INFO),
    }


def test_a_subscription_whose_requests_have_ended_may_wait_for_news_for_ever() -> None:
    (finding,) = found(stream(half_closed=True, idle=1e6))
    assert (finding.kind, finding.severity) == (Kind.ENDLESS_RECEIVE, Severity.INFO)


def test_a_stream_without_a_deadline_must_be_old_and_idle() -> None:
    old = {"deadline": None, "age": 3600.0, "idle": 300.0}
    assert {each.kind for each in found(stream(**old))} == {Kind.STREAM_IDLE, Kind.NO_DEADLINE}
    for young in ({"age": 3599.0}, {"idle": 299.0}, {"deadline": 7200.0}):
        assert Kind.NO_DEADLINE not in {each.kind for each in found(stream(**{**old, **young}))}


@pytest.mark.parametrize("trouble", [{"call_ended": 900.0}, {"half_closed": True}, {"sending_blocked": True}])
def test_a_stream_in_trouble_is_not_also_idle(trouble: dict[str, Any]) -> None:
    assert len(found(stream(**trouble, deadline=None, age=9000.0, idle=9000.0))) == 1


def test_streams_are_grouped_by_method_and_side_with_their_numbers() -> None:
    ours = [
        stream(half_closed=True, idle=float(idle), where=where)
        for idle, where in ((90, "a.py:1"), (600, "b.py:2"), (60, "b.py:2"))
    ]
    findings = found(*ours, stream(half_closed=True, idle=90.0, side="client"), stream(half_closed=True, idle=5.0))
    assert [each.side for each in findings] == ["server", "client"]
    assert findings[0].evidence == (
        "3 streams served although the other side has finished, idle for up to 10 min; 9 messages sent, 12 received."
    )
    assert findings[0].holder == "b.py:2"
    assert findings[1].evidence.startswith("1 stream served")


def test_the_sentence_says_a_trouble_that_is_a_leak_before_growth_is_decided() -> None:
    judgement = verdict(samples(2), [stream(call_ended=605.0)])
    assert judgement.sentence == (
        "chat.Chat/Talk goes on after its calls have ended: 1 stream served although the call has ended, "
        "up to 10 min ago; 3 messages sent, 4 received."
    )
    assert verdict(samples(2), [stream(call_ended=65.0)]).sentence.startswith("Too early to say")
    idle = verdict(samples(20), [stream(idle=900.0)])
    assert idle.sentence == "No leak seen in the last 3 min."
    assert not only(idle).is_leak


def test_idle_streams_of_a_method_whose_streams_pile_up_are_evidence() -> None:
    streams = [stream(idle=400.0, deadline=None, age=9000.0)] * 9 + [stream(deadline=None)] * 3 + [stream()] * 28
    finding = only(verdict(samples(40, talk(open=lambda i: i)), streams))
    assert finding.kind is Kind.STREAM_NOT_CLOSED
    assert finding.evidence.endswith("; 9 of them idle for more than 5 min; 12 without a deadline.")
    kinds = {each.kind for each in verdict(samples(40, talk(open=lambda i: 40)), streams).findings}
    assert kinds == {Kind.STREAM_IDLE, Kind.NO_DEADLINE}


@pytest.mark.parametrize(
    ("field", "kind", "trouble"),
    [
        ("open", Kind.ENDLESS_RECEIVE, {"half_closed": True, "idle": 90.0}),
        ("open", Kind.PEER_NOT_READING, {"sending_blocked": True, "idle": 90.0}),
        ("kept_streams", Kind.PEER_GONE, {"call_ended": 90.0}),
    ],
)
def test_the_trouble_that_most_streams_that_pile_up_are_in_is_the_finding(
    field: str, kind: Kind, trouble: dict[str, Any]
) -> None:
    rows, ill = talk(**{field: lambda i: i}), stream(**trouble, where="svc.py:7 Talk")
    finding = only(verdict(samples(40, rows), [ill] * 20))
    assert (finding.kind, finding.severity, finding.holder) == (kind, Severity.WARNING, "svc.py:7 Talk")
    assert finding.growth is not None
    assert finding.growth.per_minute == pytest.approx(6)
    assert finding.evidence.startswith("20 streams ")
    assert "up from 0 in 6 min" in finding.evidence
    few = verdict(samples(40, rows), [ill] * 19).findings
    assert few[0].severity is Severity.WARNING
    assert (few[1].kind, few[1].severity, few[1].growth) == (kind, Severity.INFO, None)
    assert len(few) == 2

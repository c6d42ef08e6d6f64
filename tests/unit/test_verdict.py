"""What grows by method: the finding, what merely follows it, and the sentence."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from otelstream.findings import Finding, Kind, OpenStream, Outliving, Severity
from otelstream.history import History, MethodKey, MethodSample, Sample
from otelstream.record import Side
from otelstream.verdict import Judgement, judge

MIB = 1024 * 1024
TALK = MethodKey("chat.Chat/Talk", Side.SERVER)
CLIENT = MethodKey("chat.Chat/Talk", Side.CLIENT)
WHERE = ("chat.Chat/Talk", "server")

Rows = dict[MethodKey, MethodSample]


def samples(
    count: int,
    rows: Callable[[int], Rows] = lambda i: {},
    *,
    interval_s: float = 10,
    rss: Callable[[int], float | None] = lambda i: 100 * MIB,
    **others: Callable[[int], float],
) -> list[Sample]:
    """``count`` samples, each field as the function of its number says, as ``History`` keeps them."""
    history = History()
    for i in range(count):
        size = rss(i)
        parts: dict[str, Any] = {name: int(read(i)) for name, read in others.items()}
        time_ns = 1_700_000_000_000_000_000 + int(i * interval_s * 1e9)
        history.add(Sample(time_ns, rss=None if size is None else int(size), methods=rows(i), **parts))
    return list(history)


def talk(**fields: Callable[[int], float]) -> Callable[[int], Rows]:
    """Rows of the server's side of one method."""
    return lambda i: {TALK: MethodSample(**{name: read(i) for name, read in fields.items()})}  # type: ignore[arg-type]


def verdict(
    taken: Sequence[Sample], streams: Sequence[OpenStream] = (), outliving: Sequence[Outliving] = ()
) -> Judgement:
    return judge(taken, streams, outliving, 10)


def only(judgement: Judgement) -> Finding:
    (finding,) = judgement.findings
    return finding


def stream(**fields: Any) -> OpenStream:
    defaults = {"method": "chat.Chat/Talk", "side": "server", "age": 100.0, "idle": 1.0, "deadline": 60.0}
    return OpenStream(**{**defaults, "sent": 3, "received": 4, **fields})


# Each kind that grows


def test_messages_retained() -> None:
    rows = talk(retained=lambda i: 200.0 * i, retained_bytes=lambda i: 200.0 * i * 8192)
    judgement = verdict(samples(40, rows, rss=lambda i: 100 * MIB + i * 1.8 * MIB))
    finding = only(judgement)
    assert (finding.kind, finding.severity) == (Kind.MESSAGES_RETAINED, Severity.WARNING)
    assert (finding.method, finding.side, finding.holder) == (*WHERE, None)
    assert finding.growth is not None
    assert (finding.growth.per_minute, finding.growth.unit) == (pytest.approx(1200), "{message}")
    assert finding.memory_growth is not None
    assert finding.memory_growth.per_minute == pytest.approx(1200 * (8192 + 600))
    assert finding.share == pytest.approx(1200 * (8192 + 600) / (6 * 1.8 * MIB))
    assert finding.evidence == "7.8k messages retained, up from 0 in 6 min; the messages have 60.9 MiB."
    assert judgement.sentence == (
        "chat.Chat/Talk keeps its messages: +1.2k messages (+10.1 MiB) per minute, "
        "which is 93 % of the process's growth."
    )
    assert judgement.decided
    assert judgement.window == 390
    assert judgement.memory_growth is not None
    assert judgement.memory_growth.per_minute == pytest.approx(6 * 1.8 * MIB, rel=0.01)


@pytest.mark.parametrize(
    ("field", "kind", "unit"),
    [
        ("open", Kind.STREAM_NOT_CLOSED, "{stream}"),
        ("kept_streams", Kind.ENDED_STREAM_KEPT, "{stream}"),
        ("tasks", Kind.TASK_OUTLIVING, "{task}"),
        ("threads", Kind.THREAD_OUTLIVING, "{thread}"),
        ("abandoned", Kind.STREAM_ABANDONED, "{stream}"),
    ],
)
def test_each_other_count(field: str, kind: Kind, unit: str) -> None:
    judgement = verdict(samples(40, talk(**{field: lambda i: i})))
    finding = only(judgement)
    assert (finding.kind, finding.severity, finding.share) == (kind, Severity.WARNING, None)
    assert finding.growth is not None
    assert (finding.growth.per_minute, finding.growth.unit) == (pytest.approx(6), unit)
    assert finding.evidence.startswith("39 ")
    assert finding.evidence.endswith(", up from 0 in 6 min.")
    assert judgement.sentence.startswith("chat.Chat/Talk ")
    assert judgement.sentence.endswith(f": +6 {unit[1:-1]}s per minute.")


def test_a_few_kept_messages_are_not_worth_a_word_unless_they_are_large() -> None:
    assert verdict(samples(40, talk(retained=lambda i: i, retained_bytes=lambda i: 100.0 * i))).findings == ()
    assert verdict(samples(40, talk(retained=lambda i: i, retained_bytes=lambda i: 8192.0 * i))).findings != ()


@pytest.mark.parametrize(
    ("field", "start", "rise"),
    [("open", 0, 8), ("open", 100, 40), ("tasks", 100, 40), ("kept_streams", 1000, 200), ("retained", 0, 200)],
)
def test_the_least_rise_that_counts(field: str, start: float, rise: float) -> None:
    # The level of the last three of 40 samples counts, not the last one.
    for part, found in ((0.9, False), (1.2, True)):
        judgement = verdict(samples(40, talk(**{field: lambda i, part=part: start + part * rise * i / 37})))
        assert (judgement.findings != ()) is found


def test_the_least_growth_of_memory_that_counts() -> None:
    for start, rise, found in ((50, 7, False), (50, 10, True), (1000, 45, False), (1000, 60, True)):
        taken = samples(40, rss=lambda i, start=start, rise=rise: (start + rise * i / 37) * MIB)
        assert (verdict(taken).findings != ()) is found


def test_an_estimate_that_wanders_by_a_tenth_for_minutes_is_no_leak() -> None:
    source, errors = random.Random(5), [0.0]
    for _ in range(400):
        errors.append(0.9 * errors[-1] + 0.44 * source.gauss(0, 0.04))
    rows = talk(retained=lambda i: 10_000 * (1 + errors[i]), retained_bytes=lambda i: 1e7 * (1 + errors[i]))
    for count in range(12, 400, 3):
        assert verdict(samples(count, rows)).findings == ()


def test_one_leak_on_both_sides_is_two_findings_the_worse_first() -> None:
    def rows(i: int) -> Rows:
        return {CLIENT: MethodSample(open=i), TALK: MethodSample(open=2 * i)}

    judgement = verdict(samples(40, rows))
    assert [(each.kind.value, each.side) for each in judgement.findings] == [
        ("stream_not_closed", "server"),
        ("stream_not_closed", "client"),
    ]


def test_what_explains_the_growth_comes_before_what_does_not() -> None:
    other = MethodKey("a.A/B", Side.SERVER)

    def rows(i: int) -> Rows:
        return {
            other: MethodSample(retained=20.0 * i, retained_bytes=20.0 * i),
            TALK: MethodSample(threads=i, retained=100.0 + (i > 20), retained_bytes=20.0),
            CLIENT: MethodSample(retained=30.0 * i, retained_bytes=30.0 * i * 40_000),
        }

    judgement = verdict(samples(40, rows, rss=lambda i: 100 * MIB + 30 * i * 41_000))
    assert [(each.method, each.side, each.kind.value) for each in judgement.findings] == [
        (*CLIENT[:1], "client", "messages_retained"),
        ("a.A/B", "server", "messages_retained"),
        ("chat.Chat/Talk", "server", "thread_outliving"),
    ]


# One cause, one finding


@pytest.mark.parametrize("cause", ["open", "tasks", "threads", "kept_streams", "abandoned"])
def test_messages_that_follow_what_holds_them_are_its_evidence(cause: str) -> None:
    rows = talk(**{cause: lambda i: i}, retained=lambda i: 6.0 * i, retained_bytes=lambda i: 6e4 * i)
    finding = only(verdict(samples(40, rows)))
    assert finding.kind is not Kind.MESSAGES_RETAINED
    assert "with them 234 messages retained" in finding.evidence
    assert "2.2 MiB" in finding.evidence


@pytest.mark.parametrize("cause", ["tasks", "threads", "abandoned"])
def test_ended_streams_that_tasks_or_threads_keep_are_their_evidence(cause: str) -> None:
    rows = talk(**{cause: lambda i: i}, kept_streams=lambda i: i, retained=lambda i: 9.0 * i)
    judgement = verdict(samples(40, rows))
    kinds = [each.kind for each in judgement.findings]
    assert Kind.ENDED_STREAM_KEPT not in kinds
    assert "with them 39 streams referenced after their end" in judgement.findings[-1].evidence
    assert Kind.MESSAGES_RETAINED in kinds  # nine each are more than a stream has in hand


def test_messages_that_grow_by_themselves_are_the_finding() -> None:
    rows = talk(open=lambda i: 1, retained=lambda i: 30.0 * i)
    assert only(verdict(samples(40, rows))).kind is Kind.MESSAGES_RETAINED


def test_messages_that_become_more_for_each_stream_are_a_finding_beside_the_streams() -> None:
    rows = talk(open=lambda i: i, retained=lambda i: 0.15 * i * i)
    kinds = {finding.kind for finding in verdict(samples(40, rows)).findings}
    assert kinds == {Kind.STREAM_NOT_CLOSED, Kind.MESSAGES_RETAINED}


def test_the_messages_share_is_that_of_their_cause_when_it_is_most() -> None:
    rows = talk(open=lambda i: i, retained=lambda i: i, retained_bytes=lambda i: 1.0 * MIB * i)
    explained = only(verdict(samples(40, rows, rss=lambda i: 100 * MIB + i * 1.1 * MIB)))
    assert explained.share == pytest.approx(1 / 1.1, rel=0.01)
    assert explained.memory_growth is not None
    unknown = only(verdict(samples(40, rows, rss=lambda i: 100 * MIB + i * 4 * MIB)))
    assert (unknown.share, unknown.memory_growth) == (None, None)


# Holders and advice


def test_the_holder_of_tasks_is_their_biggest_group() -> None:
    groups = [
        Outliving(*WHERE, False, "few (a.py:1)", "get (a.py:2)", 3, 9.0),
        Outliving(*WHERE, False, "many (b.py:1)", "get (b.py:2)", 30, 9.0),
        Outliving(*WHERE, True, "thread (c.py:1)", "wait (c.py:2)", 99, 9.0),
        Outliving("chat.Chat/Talk", "client", False, "other (d.py:1)", None, 99, 9.0),
    ]
    assert (
        only(verdict(samples(40, talk(tasks=lambda i: i)), (), groups)).holder == "many (b.py:1), waits at get (b.py:2)"
    )
    assert only(verdict(samples(40, talk(threads=lambda i: i)), (), groups)).holder == (
        "thread (c.py:1), waits at wait (c.py:2)"
    )
    running = [Outliving(*WHERE, False, "busy (a.py:1)", None, 3, 9.0)]
    assert only(verdict(samples(40, talk(tasks=lambda i: i)), (), running)).holder == "busy (a.py:1)"
    assert only(verdict(samples(40, talk(tasks=lambda i: i)))).holder is None


def test_the_holder_of_streams_is_where_most_of_them_are() -> None:
    streams = [stream(where="svc.py:9 Talk"), stream(where="svc.py:7 Talk"), stream(where="svc.py:7 Talk"), stream()]
    for field in ("open", "abandoned"):
        assert only(verdict(samples(40, talk(**{field: lambda i: i})), streams)).holder == "svc.py:7 Talk"


def test_known_faults_of_grpcio_are_named() -> None:
    assert "grpc #43462" in only(verdict(samples(40, talk(abandoned=lambda i: i)))).advice
    thread = Outliving(*WHERE, True, "_consume_request_iterator (grpc/_channel.py:1)", None, 30, 9.0)
    assert "grpc #21995" in only(verdict(samples(40, talk(threads=lambda i: i)), (), [thread])).advice
    assert "grpc #21995" not in only(verdict(samples(40, talk(threads=lambda i: i)))).advice


# Deciding


def test_nothing_grows() -> None:
    judgement = verdict(samples(121, talk(open=lambda i: 5 + i % 3, messages=lambda i: 100 * i)))
    assert judgement.findings == ()
    assert judgement.decided
    assert judgement.sentence == "No leak seen in the last 20 min."
    assert judgement.memory_growth is not None
    assert judgement.memory_growth.per_minute == 0


@pytest.mark.parametrize(("count", "watched"), [(0, "0 s"), (1, "0 s"), (5, "40 s"), (11, "100 s")])
def test_too_early(count: int, watched: str) -> None:
    judgement = verdict(samples(count, talk(open=lambda i: 100 * i)))
    assert not judgement.decided
    assert judgement.sentence == f"Too early to say: watched for {watched}, it takes 150 s."
    assert (judgement.findings, judgement.memory_growth) == ((), None)


def test_a_short_interval_is_watched_for_less_long() -> None:
    taken = samples(40, talk(open=lambda i: i), interval_s=0.25)
    assert only(judge(taken, (), (), 0.25)).kind is Kind.STREAM_NOT_CLOSED
    assert judge(taken[:5], (), (), 0.25).sentence == "Too early to say: watched for 1 s, it takes 4 s."


def test_a_sample_just_after_another_and_a_clock_that_was_set_back_do_no_harm() -> None:
    taken = samples(40, talk(open=lambda i: i))
    assert judge([*taken, Sample(taken[-1].time_ns, methods=taken[-1].methods)], (), (), 10).window == 390
    before = [Sample(each.time_ns + 10**15, methods=each.methods) for each in taken]
    assert judge([*before, *taken], (), (), 10).window == 390
    assert only(judge([*before, *taken], (), (), 10)).kind is Kind.STREAM_NOT_CLOSED


def test_messages_that_grow_more_than_the_process_are_none() -> None:
    """Objects that are sent again and again look like ever more messages."""
    growing = talk(retained=lambda i: 400.0 * i, retained_bytes=lambda i: 400.0 * 2000 * i)
    assert verdict(samples(40, growing, python=lambda i: 50 * MIB, native=lambda i: 40 * MIB)).findings == ()
    used = samples(40, growing, python=lambda i: 50 * MIB, native=lambda i: 40 * MIB + 400 * 2600 * i)
    assert only(verdict(used)).kind is Kind.MESSAGES_RETAINED  # in memory that was free before: RSS stays
    little = talk(retained=lambda i: 400.0 * i, retained_bytes=lambda i: 400.0 * 100 * i)
    assert only(verdict(samples(40, little))).kind is Kind.MESSAGES_RETAINED


def test_tasks_that_pile_up_inside_a_stream_that_stays_open_are_a_leak() -> None:
    group = Outliving(TALK.method, "server", False, "note (a.py:3)", "note (a.py:4)", 40, 0.0)
    finding = only(verdict(samples(40, talk(inside=lambda i: 5 * i, open=lambda i: 1)), (), [group]))
    assert (finding.kind, finding.holder) == (Kind.TASK_OUTLIVING, "note (a.py:3), waits at note (a.py:4)")
    assert "195 tasks running inside open streams" in finding.evidence


def test_tasks_that_come_with_each_stream_are_the_streams() -> None:
    finding = only(verdict(samples(40, talk(inside=lambda i: 2 * i, open=lambda i: i))))
    assert finding.kind is Kind.STREAM_NOT_CLOSED

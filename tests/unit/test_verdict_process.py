"""Growth of the process: what explains it, what does not, and how long the memory lasts."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from otelstream.findings import Kind, Severity
from otelstream.history import MethodKey, MethodSample
from otelstream.memory import heap_growth
from otelstream.memory.heap_growth import Grown
from otelstream.record import Side
from otelstream.verdict import sentence
from tests.unit.test_verdict import CLIENT, MIB, TALK, Rows, only, samples, stream, talk, verdict


def at(start: float, step: float = 0) -> Callable[[int], float]:
    """MiB."""
    return lambda i: (start + step * i) * MIB


def talking(i: int) -> Rows:
    return {TALK: MethodSample(messages=60 * i), CLIENT: MethodSample(messages=60 * i)}


def test_python_growth() -> None:
    judgement = verdict(
        samples(40, talking, rss=at(100, 2), python=at(40, 1.5), native=at(20, 0.4), allocator_free=at(5))
    )
    finding = only(judgement)
    assert (finding.kind, finding.severity) == (Kind.PYTHON_GROWTH, Severity.WARNING)
    assert (finding.method, finding.side) == ("chat.Chat/Talk", None)  # both sides carried
    assert finding.growth is not None
    assert finding.growth.per_minute == pytest.approx(9 * MIB)
    assert finding.growth == finding.memory_growth
    assert finding.share == pytest.approx(0.75)
    assert finding.evidence == (
        "The process grew by 78.0 MiB to 178.0 MiB in 6 min; Python's objects by 58.5 MiB, which no messages, streams, "
        "tasks or threads explain; only chat.Chat/Talk carried messages: 34.1 KiB for each of 2.3k."
    )
    assert judgement.sentence == (
        "Python's objects grow: +9.0 MiB per minute, which nothing that is counted explains, "
        "and only chat.Chat/Talk carries messages."
    )


def test_native_growth() -> None:
    taken = samples(40, talking, rss=at(100, 2), python=at(40, 0.4), native=at(20, 1.5), allocator_free=at(5))
    finding = only(verdict(taken))
    assert finding.kind is Kind.NATIVE_GROWTH
    assert "native memory by 58.5 MiB" in finding.evidence
    assert "grpc #43360" in finding.advice


def test_protobuf_growth() -> None:
    """A part that is kept keeps its whole message: nothing that is counted grows as much."""
    parts = {"python": at(40, 0.1), "protobuf": at(10, 1.7), "native": at(20, 0.2), "allocator_free": at(5)}
    judgement = verdict(samples(40, talking, rss=at(100, 2), **parts))
    finding = only(judgement)
    assert (finding.kind, finding.share) == (Kind.PROTOBUF_GROWTH, pytest.approx(0.85))
    assert "protobuf's memory by 66.3 MiB" in finding.evidence
    assert judgement.sentence.startswith("protobuf's memory grows: +10.2 MiB per minute")


def test_native_is_outside_python_and_protobuf() -> None:
    parts = {"python": at(40), "protobuf": at(10), "native": at(20, 1.9), "allocator_free": at(5)}
    finding = only(verdict(samples(40, talking, rss=at(100, 2), **parts)))
    assert finding.kind is Kind.NATIVE_GROWTH
    assert "heap profile" not in finding.evidence


def test_without_the_heap_profile_native_memory_may_be_anybodys() -> None:
    parts = {"python": at(40), "native": at(20, 1.9), "allocator_free": at(5)}
    assert (
        "explain; it may be protobuf's, or Python's larger objects: only the heap profile tells them apart; only "
        in only(verdict(samples(40, talking, rss=at(100, 2), **parts))).evidence
    )


def test_the_line_that_the_heap_profile_names_is_in_the_sentence() -> None:
    judgement = verdict(samples(40, rss=at(100, 2), python=at(40, 1.9), native=at(20), allocator_free=at(5)))
    finding = only(judgement)
    line = "add (app.py:3)"
    under = heap_growth.named(finding, Grown(line, TALK, 50 * MIB, 0.8))
    assert under.evidence.endswith(
        "; 50.0 MiB, 80 % of what came and stayed is from add (app.py:3) under chat.Chat/Talk."
    )
    assert (under.method, under.side, under.holder) == (*TALK[:1], "server", line)
    assert sentence([under], "") == (
        "Python's objects grow: +11.4 MiB per minute, most of it at add (app.py:3) under chat.Chat/Talk."
    )
    nobodys = heap_growth.named(finding, Grown(line, None, 50 * MIB, 0.8))
    assert sentence([nobodys], "") == "Python's objects grow: +11.4 MiB per minute, most of it at add (app.py:3)."


def test_a_method_is_named_only_when_it_alone_carried_messages() -> None:
    def rows(i: int) -> Rows:
        other = MethodKey("a.A/B", Side.SERVER)
        return {TALK: MethodSample(messages=60 * i), other: MethodSample(messages=5 if early else i)}

    parts = {"python": at(40, 1.5), "native": at(20), "allocator_free": at(5)}
    early = True
    finding = only(verdict(samples(40, rows, rss=at(100, 2), **parts)))
    assert (finding.method, finding.side) == ("chat.Chat/Talk", "server")
    early = False
    finding = only(verdict(samples(40, rows, rss=at(100, 2), **parts)))
    assert (finding.method, finding.side) == (None, None)


def test_fragmentation_is_a_leak_only_when_it_goes_on() -> None:
    parts = {"python": at(40), "native": at(20), "allocator_free": at(5, 1)}
    judgement = verdict(samples(60, talking, rss=at(100, 1), **parts))
    assert (only(judgement).kind, only(judgement).severity) == (Kind.FRAGMENTATION, Severity.INFO)
    assert only(judgement).method is None
    assert judgement.sentence == "No leak seen in the last 10 min."
    judgement = verdict(samples(130, talking, rss=at(100, 1), **parts))
    assert only(judgement).severity is Severity.WARNING
    assert judgement.sentence.startswith("The allocators keep more and more")


def test_freed_memory_that_comes_with_what_is_in_use_is_not_the_cause() -> None:
    taken = samples(40, rss=at(100, 2), python=at(40, 1.2), native=at(20), allocator_free=at(5, 0.8))
    assert only(verdict(taken)).kind is Kind.PYTHON_GROWTH


def test_of_two_parts_that_grow_the_larger_is_the_cause() -> None:
    taken = samples(40, rss=at(100, 2), python=at(40, 0.8), native=at(20, 1.2), allocator_free=at(5))
    assert only(verdict(taken)).kind is Kind.NATIVE_GROWTH


def test_a_part_that_grows_by_little_is_not_the_cause() -> None:
    judgement = verdict(samples(40, rss=at(100, 2), python=at(40, 0.1), native=at(20), allocator_free=at(5)))
    assert judgement.findings == ()
    assert judgement.sentence == (
        "The process grows by 12.0 MiB per minute, but no part of it that can be read grows as much."
    )


def test_memory_growth_where_the_parts_can_not_be_read() -> None:
    judgement = verdict(samples(40, talking, rss=at(100, 2)), [stream(idle=900.0)])
    assert [each.kind for each in judgement.findings] == [Kind.MEMORY_GROWTH, Kind.STREAM_IDLE]
    finding = judgement.findings[0]
    assert (finding.severity, finding.method, finding.side) == (Severity.WARNING, "chat.Chat/Talk", None)
    assert finding.growth is not None
    assert (finding.growth.per_minute, finding.growth.unit) == (pytest.approx(12 * MIB), "By")
    assert (finding.memory_growth, finding.share) == (finding.growth, 1)
    assert finding.evidence == (
        "The process grew by 78.0 MiB to 178.0 MiB in 6 min, which no messages, streams, tasks or threads explain; "
        "its parts can't be told apart here; only chat.Chat/Talk carried messages: 34.1 KiB for each of 2.3k."
    )
    assert judgement.sentence == (
        "Memory grows: +12.0 MiB per minute, which nothing that is counted explains, "
        "and only chat.Chat/Talk carries messages."
    )


@pytest.mark.parametrize("missing", ["python", "native", "allocator_free"])
def test_one_part_that_can_not_be_read_is_enough_to_not_tell_them_apart(missing: str) -> None:
    parts = {"python": at(40, 2), "native": at(20), "allocator_free": at(5)}
    del parts[missing]
    assert only(verdict(samples(40, rss=at(100, 2), **parts))).kind is Kind.MEMORY_GROWTH


def test_memory_that_what_is_counted_explains_is_no_finding_of_its_own() -> None:
    rows = talk(retained=lambda i: 10.0 * i, retained_bytes=lambda i: 1.2 * MIB * i)
    assert only(verdict(samples(60, rows, rss=at(100, 2)))).kind is Kind.MESSAGES_RETAINED
    assert only(verdict(samples(60, talk(open=lambda i: i), rss=at(100, 2)))).kind is Kind.STREAM_NOT_CLOSED


def test_what_was_before_the_growth_is_left_out() -> None:
    def late(i: int) -> float:
        return max(0, i - 80) * MIB

    def rows(i: int) -> Rows:
        return {TALK: MethodSample(messages=60 * i, retained=10 * late(i) / MIB, retained_bytes=0.8 * late(i))}

    parts = {"native": at(20), "allocator_free": at(5)}
    judgement = verdict(samples(120, rows, rss=lambda i: 100 * MIB + 2 * late(i), python=late, **parts))
    assert [each.kind for each in judgement.findings] == [Kind.PYTHON_GROWTH, Kind.MESSAGES_RETAINED]
    python, messages = judgement.findings
    assert judgement.memory_growth is not None
    assert judgement.memory_growth.per_minute == pytest.approx(12 * MIB, rel=0.1)
    assert python.growth is not None
    assert python.growth.per_minute == pytest.approx(6 * MIB, rel=0.1)
    assert messages.share == pytest.approx(0.4, rel=0.1)
    assert " to 178.0 MiB in 8 min; " in python.evidence  # of 20
    assert "KiB for each of 2.9k" in python.evidence  # of 7.1k


def test_growth_that_is_no_leak_is_that_of_the_last_20_min() -> None:
    judgement = verdict(samples(530, rss=lambda i: 100 * MIB + min(i, 400) * MIB))
    assert judgement.findings == ()
    assert judgement.memory_growth is not None
    assert judgement.memory_growth.per_minute == 0


def test_a_process_that_does_not_grow_has_no_finding_whatever_its_parts_do() -> None:
    taken = samples(40, rss=at(100), python=at(40, 1), native=at(60, -1), allocator_free=at(5))
    assert verdict(taken).findings == ()


def test_samples_without_a_size_are_left_out() -> None:
    judgement = verdict(samples(40, rss=lambda i: None))
    assert (judgement.memory_growth, judgement.decided) == (None, True)
    judgement = verdict(samples(80, rss=lambda i: at(100, 2)(i) if i % 2 else None))
    assert judgement.memory_growth is not None
    assert judgement.memory_growth.per_minute == pytest.approx(12 * MIB)


# What explains it


@pytest.mark.parametrize(("size", "explains"), [(1.2 * MIB, True), (0.5 * MIB, False)])
def test_messages_that_are_most_of_the_growth_explain_it(size: float, explains: bool) -> None:
    rows = talk(retained=lambda i: 10.0 * i, retained_bytes=lambda i: size * i)
    taken = samples(60, rows, rss=at(100, 2), python=at(40), native=at(20, 2), allocator_free=at(5))
    kinds = [finding.kind for finding in verdict(taken).findings]
    expected = [Kind.MESSAGES_RETAINED] if explains else [Kind.NATIVE_GROWTH, Kind.MESSAGES_RETAINED]
    assert kinds == expected


def test_no_share_is_above_the_whole() -> None:
    rows = talk(retained=lambda i: 10.0 * i, retained_bytes=lambda i: 3.0 * MIB * i)
    assert only(verdict(samples(60, rows, rss=at(100, 2)))).share == 1


@pytest.mark.parametrize("field", ["open", "tasks", "threads", "kept_streams", "abandoned"])
def test_what_has_no_known_size_explains_up_to_16_mib_each(field: str) -> None:
    parts = {"python": at(40), "allocator_free": at(5)}
    rows = talk(**{field: lambda i: i})
    explained = verdict(samples(60, rows, rss=at(100, 12), native=at(20, 12), **parts))
    assert only(explained).kind is not Kind.NATIVE_GROWTH
    assert only(explained).share is None
    beyond = verdict(samples(60, rows, rss=at(100, 30), native=at(20, 30), **parts))
    assert beyond.findings[0].kind is Kind.NATIVE_GROWTH
    assert len(beyond.findings) == 2


# How long the memory lasts


@pytest.mark.parametrize(("left", "severity"), [(700, Severity.CRITICAL), (740, Severity.WARNING)])
def test_critical_within_the_hour(left: float, severity: Severity) -> None:
    # 12 MiB per minute.
    parts = {"python": at(40), "native": at(20, 2), "allocator_free": at(5), "available": at(left)}
    process = only(verdict(samples(40, rss=at(100, 2), **parts)))
    assert process.severity is severity
    rows = talk(retained=lambda i: 200.0 * i, retained_bytes=lambda i: 1.8 * MIB * i)
    messages = only(verdict(samples(40, rows, rss=at(100, 2), **parts)))
    assert (messages.kind, messages.severity) == (Kind.MESSAGES_RETAINED, severity)
    streams = only(verdict(samples(40, talk(open=lambda i: i), rss=at(100, 2), **parts)))
    assert (streams.kind, streams.severity) == (Kind.STREAM_NOT_CLOSED, severity)


def test_critical_says_how_long() -> None:
    parts = {"python": at(40), "native": at(20, 2), "allocator_free": at(5), "available": at(120)}
    finding = only(verdict(samples(40, rss=at(100, 2), **parts)))
    assert finding.evidence.endswith("; the 120.0 MiB left to the container last 10 min.")
    unknown = only(verdict(samples(40, rss=at(100, 2), available=at(120))))
    assert (unknown.kind, unknown.severity) == (Kind.MEMORY_GROWTH, Severity.CRITICAL)


def test_growth_that_nothing_explains_is_critical_though_its_largest_part_is_not_most_of_it() -> None:
    parts = {"python": at(40, 0.7), "native": at(20), "allocator_free": at(5), "available": at(120)}
    finding = only(verdict(samples(40, rss=at(100, 2), **parts)))
    assert (finding.kind, finding.severity) == (Kind.PYTHON_GROWTH, Severity.CRITICAL)


def test_what_does_not_explain_the_growth_is_not_critical() -> None:
    def rows(i: int) -> Rows:
        return {
            TALK: MethodSample(retained=200.0 * i, retained_bytes=1.8 * MIB * i),
            CLIENT: MethodSample(tasks=i, retained=0.0),
            MethodKey("a.A/B", Side.SERVER): MethodSample(retained=20.0 * i, retained_bytes=20.0 * i),
        }

    findings = verdict(samples(40, rows, rss=at(100, 2), available=at(100))).findings
    assert [(each.method, each.kind, each.severity) for each in findings] == [
        ("chat.Chat/Talk", Kind.MESSAGES_RETAINED, Severity.CRITICAL),
        ("a.A/B", Kind.MESSAGES_RETAINED, Severity.WARNING),
        ("chat.Chat/Talk", Kind.TASK_OUTLIVING, Severity.WARNING),
    ]


def test_fragmentation_that_is_only_worth_knowing_is_not_critical() -> None:
    parts = {"python": at(40), "native": at(20), "allocator_free": at(5, 1), "available": at(30)}
    assert only(verdict(samples(60, rss=at(100, 1), **parts))).severity is Severity.INFO


def test_a_process_that_is_not_growing_is_never_critical() -> None:
    finding = only(verdict(samples(40, talk(open=lambda i: i), available=at(1))))
    assert finding.severity is Severity.WARNING

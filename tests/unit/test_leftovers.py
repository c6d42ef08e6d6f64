"""What was left behind, in words."""

from __future__ import annotations

from typing import Any

from otelstream import leftovers
from otelstream.findings import Kind, OpenStream, Outliving, Severity
from otelstream.history import MethodKey
from otelstream.record import Side


def stream(age: float = 1.0, **changes: Any) -> OpenStream:
    known = {"method": "a.B/Chat", "side": "client", "idle": 0.0, "deadline": None, "sent": 1, "received": 2}
    return OpenStream(**{**known, **changes}, age=age)


def work(count: int, *, is_thread: bool, waits_at: str | None = "wait (app.py:9)") -> Outliving:
    return Outliving("a.B/Chat", "server", is_thread, "pump (app.py:3)", waits_at, count, oldest=2.0)


def test_open_streams_are_one_finding_per_method_and_side() -> None:
    found = leftovers.of_streams(
        [
            stream(3.04, where="run (app.py:1)"),
            stream(1.0, where="run (app.py:2)"),
            stream(2.0, where="run (app.py:2)"),
            stream(side="server"),
            stream(method="a.B/Other"),
        ]
    )
    assert [(finding.method, finding.side, finding.kind) for finding in found] == [
        ("a.B/Chat", "client", Kind.STREAM_NOT_CLOSED),
        ("a.B/Chat", "server", Kind.STREAM_NOT_CLOSED),
        ("a.B/Other", "client", Kind.STREAM_NOT_CLOSED),
    ]
    assert found[0].evidence == "3 streams are still open, the oldest 3.0 s old."
    assert found[0].holder == "run (app.py:2)"  # where most of them are
    assert found[1].evidence.startswith("1 stream is still open")
    assert found[1].holder is None
    assert {finding.severity for finding in found} == {Severity.WARNING}


def test_handlers_whose_call_has_ended_are_told_from_streams_that_are_open() -> None:
    found = leftovers.of_streams([stream(side="server"), stream(side="server", call_ended=0.0)])
    assert [finding.kind for finding in found] == [Kind.STREAM_NOT_CLOSED, Kind.PEER_GONE]
    assert found[1].evidence.startswith("1 handler is still running though the call has ended")


def test_work_is_named_with_the_line_where_it_waits() -> None:
    tasks, thread = leftovers.of_work([work(2, is_thread=False), work(1, is_thread=True, waits_at=None)])
    assert (tasks.kind, thread.kind) == (Kind.TASK_OUTLIVING, Kind.THREAD_OUTLIVING)
    assert tasks.evidence.startswith("2 tasks are still alive")
    assert thread.evidence.startswith("1 thread is still alive")
    assert (tasks.holder, thread.holder) == ("pump (app.py:3), at wait (app.py:9)", "pump (app.py:3)")


def test_objects() -> None:
    key = MethodKey("a.B/Chat", Side.SERVER)
    messages = leftovers.of_objects(key, True, 1234.4, "list `kept`")
    streams = leftovers.of_objects(key, False, 1.0, None)
    assert (messages.kind, messages.evidence) == (Kind.MESSAGES_RETAINED, "1,234 messages are still referenced.")
    assert (streams.kind, streams.evidence) == (Kind.ENDED_STREAM_KEPT, "1 ended call is still referenced.")
    assert (messages.side, messages.holder, streams.holder) == ("server", "list `kept`", None)


def test_a_line_names_the_method_the_side_and_the_holder_where_there_is_one() -> None:
    key = MethodKey("a.B/Chat", Side.SERVER)
    found = [leftovers.of_objects(key, True, 2.0, "list `kept`"), leftovers.of_objects(key, True, 2.0, None)]
    assert leftovers.lines(found) == [
        "a.B/Chat, server: 2 messages are still referenced. Look at list `kept`.",
        "a.B/Chat, server: 2 messages are still referenced.",
    ]
    assert leftovers.lines([]) == []

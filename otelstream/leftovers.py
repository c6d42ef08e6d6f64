"""What is left behind when nothing should be: at the end of a process, or of a test. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from otelstream.findings import Finding, Kind, OpenStream, Outliving, Severity
from otelstream.history import MethodKey


def of_streams(streams: Iterable[OpenStream]) -> list[Finding]:
    """One finding per method and side that has streams open, or handlers that still run."""
    groups: dict[tuple[str, str, bool], list[OpenStream]] = {}
    for stream in streams:
        groups.setdefault((stream.method, stream.side, stream.call_ended is not None), []).append(stream)
    return [_of_group(*key, group) for key, group in groups.items()]


def _of_group(method: str, side: str, has_ended: bool, group: list[OpenStream]) -> Finding:
    places = Counter(stream.where for stream in group if stream.where is not None)
    oldest = max(stream.age for stream in group)
    if has_ended:
        kind, what = Kind.PEER_GONE, f"{_count(len(group), 'handler')} still running though the call has ended"
        advice = "Have the handler return when its call ends: context.add_callback(), or let CancelledError through."
    else:
        kind, what = Kind.STREAM_NOT_CLOSED, f"{_count(len(group), 'stream')} still open"
        advice = "End each call: read it to its end, or cancel() it; stop the server and close the channel."
    return Finding(
        kind=kind,
        severity=Severity.WARNING,
        evidence=f"{what}, the oldest {oldest:.1f} s old.",
        advice=advice,
        method=method,
        side=side,
        holder=places.most_common(1)[0][0] if places else None,
    )


def of_work(groups: Iterable[Outliving]) -> list[Finding]:
    """One finding per group of tasks or threads."""
    return [
        Finding(
            kind=Kind.THREAD_OUTLIVING if group.is_thread else Kind.TASK_OUTLIVING,
            severity=Severity.WARNING,
            evidence=f"{_count(group.count, 'thread' if group.is_thread else 'task')} still alive though the call that "
            "it was started in has ended.",
            advice="End it with its call, and wait for it: asyncio.TaskGroup, or join().",
            method=group.method,
            side=group.side,
            holder=group.name if group.waits_at is None else f"{group.name}, at {group.waits_at}",
        )
        for group in groups
    ]


def of_objects(key: MethodKey, are_messages: bool, count: float, holder: str | None) -> Finding:
    """Messages, or grpc's objects of calls that have ended, that are still referenced."""
    what = "message" if are_messages else "ended call"
    return Finding(
        kind=Kind.MESSAGES_RETAINED if are_messages else Kind.ENDED_STREAM_KEPT,
        severity=Severity.WARNING,
        evidence=f"{_count(round(count), what)} still referenced.",
        advice="Let go of it when it has been handled, or bound what keeps it.",
        method=key.method,
        side=key.side.value,
        holder=holder,
    )


def lines(findings: Iterable[Finding]) -> list[str]:
    """One line per finding."""
    return [
        f"{finding.method}, {finding.side}: {finding.evidence}"
        + (f" Look at {finding.holder}." if finding.holder is not None else "")
        for finding in findings
    ]


def _count(count: int, what: str) -> str:
    return f"{count} {what} is" if count == 1 else f"{count:,} {what}s are"

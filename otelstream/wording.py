"""The words of a verdict: claims, advice, and numbers as people read them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from operator import attrgetter

from otelstream.findings import Finding, Kind, OpenStream

CLAIMS = {
    Kind.MESSAGES_RETAINED: "keeps its messages",
    Kind.STREAM_NOT_CLOSED: "leaves its streams open",
    Kind.STREAM_ABANDONED: "drops its streams unfinished",
    Kind.ENDED_STREAM_KEPT: "keeps its streams after they have ended",
    Kind.ENDLESS_RECEIVE: "goes on after the other side has finished",
    Kind.PEER_GONE: "goes on after its calls have ended",
    Kind.PEER_NOT_READING: "sends to a peer that does not read",
    Kind.TASK_OUTLIVING: "starts tasks that nobody ends",
    Kind.THREAD_OUTLIVING: "starts threads that outlive their calls",
    Kind.PYTHON_GROWTH: "Python's objects grow",
    Kind.PROTOBUF_GROWTH: "protobuf's memory grows",
    Kind.NATIVE_GROWTH: "Native memory grows",
    Kind.MEMORY_GROWTH: "Memory grows",
    Kind.FRAGMENTATION: "The allocators keep more and more of what was freed",
}
ADVICE = {
    Kind.MESSAGES_RETAINED: "Bound what holds them: deque(maxlen=), Queue(maxsize=), lru_cache(maxsize=).",
    Kind.STREAM_NOT_CLOSED: "Half-close or cancel() each call when done; server: set grpc.max_connection_age_ms.",
    Kind.STREAM_ABANDONED: "Finish the call by iterating to its end, or call.cancel(); grpcio keeps dropped asyncio "
    "calls until the channel closes (grpc #43462).",
    Kind.ENDED_STREAM_KEPT: "Remove it from what holds it when the call ends: add_callback(), add_done_callback().",
    Kind.ENDLESS_RECEIVE: "Return when the requests end: the iterator stops, context.read() returns grpc.aio.EOF.",
    Kind.PEER_GONE: "Check context.is_active() (asyncio: done()) in the loop; wake what waits from add_callback().",
    Kind.PEER_NOT_READING: "Bound the queue before the stream, use a deadline, and asyncio.wait_for on each write.",
    Kind.STREAM_IDLE: "Where silence is not meant, set grpc.keepalive_time_ms: it notices a peer that is lost.",
    Kind.NO_DEADLINE: "Give the call a timeout= and reopen it: otherwise a lost peer may keep it for ever.",
    Kind.TASK_OUTLIVING: "Await or cancel() them in the handler's finally, or use an asyncio.TaskGroup.",
    Kind.THREAD_OUTLIVING: "Stop them from context.add_callback(), by an Event or a sentinel in their queue.",
    Kind.PYTHON_GROWTH: "See which lines hold it: otelstream heap HOST:PORT --since 600; look first at global caches.",
    Kind.PROTOBUF_GROWTH: "A sub-message that is kept keeps its whole message, and a field that is set again keeps its "
    "old values: copy out what is needed. otelstream heap HOST:PORT --since 600 shows the lines.",
    Kind.NATIVE_GROWTH: "Look at C extensions with memray run --native; on asyncio, at reads that are cancelled (as by "
    "wait_for), each of which leaks a little in grpcio (grpc #43360).",
    Kind.MEMORY_GROWTH: "See which lines hold it: otelstream heap HOST:PORT --since 600; where none grow, look at C "
    "extensions with memray.",
    Kind.FRAGMENTATION: "Try MALLOC_ARENA_MAX=2, MALLOC_TRIM_THRESHOLD_=131072, or jemalloc.",
}
STUCK_ITERATOR = (
    "grpcio's thread is stuck in the request iterator of a cancelled call (grpc #21995): end the iterator when the "
    "call ends, by a sentinel that call.add_callback() puts into its queue."
)


def facts(kind: Kind, streams: Sequence[OpenStream]) -> str:
    """What is known of the streams that are in trouble, without a full stop."""
    sent, received = (sum(map(attrgetter(name), streams)) for name in ("sent", "received"))
    idle, age = (duration(max(map(attrgetter(name), streams))) for name in ("idle", "age"))
    gone = duration(max(stream.call_ended or 0.0 for stream in streams))
    state = {
        Kind.PEER_GONE: f"served although the call has ended, up to {gone} ago",
        Kind.ENDLESS_RECEIVE: f"served although the other side has finished, idle for up to {idle}",
        Kind.PEER_NOT_READING: f"waiting for the peer to make room, for up to {idle}",
        Kind.STREAM_IDLE: f"open and idle for up to {idle}",
        Kind.NO_DEADLINE: f"without a deadline, up to {age} old, idle for up to {idle}",
    }[kind]
    return f"{count(len(streams), '{stream}')} {state}; {amount(sent)} messages sent, {amount(received)} received"


def rate(finding: Finding) -> str:
    """How fast it grows; what is known of it where it does not grow."""
    growth, memory = finding.growth, finding.memory_growth
    if growth is None:
        return finding.evidence[:-1]
    if growth.unit == "By":
        return f"+{size(growth.per_minute)} per minute"
    known = f" (+{size(memory.per_minute)})" if memory else ""
    share = f", which is {100 * finding.share:.0f} % of the process's growth" if finding.share is not None else ""
    return f"+{count(growth.per_minute, growth.unit)}{known} per minute{share}"


def short_names(methods: Iterable[str]) -> dict[str, str]:
    """By whole name: ``Service/Method`` of ``pkg.v1.Service/Method``, or all of it where two would look alike."""
    names = {method: short(method) for method in methods}
    counts = Counter(names.values())
    return {method: name if counts[name] == 1 else method for method, name in names.items()}


def short(method: str) -> str:
    """``Service/Method`` of ``pkg.v1.Service/Method``."""
    service, slash, name = method.rpartition("/")
    return f"{service.rpartition('.')[2]}{slash}{name}"


def count(number: float, unit: str) -> str:
    """``12 streams`` of 12 and ``{stream}``."""
    text = amount(number)
    return f"{text} {unit.strip('{}')}" + ("s" if text != "1" else "")


_ROUND = 10


def amount(number: float) -> str:
    """``0.4``, ``12``, ``1.2k``, ``3.4M``."""
    for factor, letter in ((1e6, "M"), (1e3, "k")):
        if number >= factor:
            return f"{number / factor:.1f}{letter}"
    return f"{number:.0f}" if number >= _ROUND or number == int(number) else f"{number:.1f}"


def size(number: float) -> str:
    """``0.4 KiB``, ``9.6 MiB``."""
    for factor, unit in ((1 << 30, "GiB"), (1 << 20, "MiB")):
        if number >= factor:
            return f"{number / factor:.1f} {unit}"
    return f"{number / 1024:.1f} KiB"


def duration(seconds: float) -> str:
    """``40 s``, ``3 min``, ``2.5 h``."""
    for factor, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * factor:
            return (
                f"{seconds / factor:.1f} {unit}".replace(".0 ", " ") if unit == "h" else f"{seconds / factor:.0f} min"
            )
    return f"{seconds:.0f} s"

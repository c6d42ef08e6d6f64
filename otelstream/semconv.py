"""Every name that leaves the process: spans, attributes, metrics, buckets, schema URL.

RPC names follow the OpenTelemetry semantic conventions v1.40 (release candidate); ``otelstream.*`` names are ours.
``OTEL_SEMCONV_STABILITY_OPT_IN`` chooses between them and the older spelling of opentelemetry-instrumentation-grpc.
"""

from __future__ import annotations

from enum import Enum

from otelstream.record import Call, Outcome, Side

SCHEMA_URL = "https://opentelemetry.io/schemas/1.40.0"

RPC_SYSTEM_NAME = "rpc.system.name"
RPC_METHOD = "rpc.method"
RPC_METHOD_ORIGINAL = "rpc.method_original"
RPC_STATUS_CODE = "rpc.response.status_code"  # renamed rpc.status_code upstream: semantic-conventions #3921
ERROR_TYPE = "error.type"
EXCEPTION_TYPE = "exception.type"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
NETWORK_PEER_ADDRESS = "network.peer.address"
NETWORK_PEER_PORT = "network.peer.port"
PROCESS_MEMORY_USAGE = "process.memory.usage"
UNKNOWN_METHOD = "_OTHER"

OLD_RPC_SYSTEM = "rpc.system"
OLD_RPC_SERVICE = "rpc.service"
OLD_RPC_GRPC_STATUS_CODE = "rpc.grpc.status_code"
OLD_NET_PEER_IP = "net.peer.ip"
OLD_NET_PEER_PORT = "net.peer.port"
OLD_NET_PEER_NAME = "net.peer.name"

RPC_TYPE = "otelstream.rpc.type"
OUTCOME = "otelstream.outcome"
SENT_COUNT = "grpc.sent.message_count"
RECEIVED_COUNT = "grpc.received.message_count"
SENT_BYTES = "otelstream.sent.bytes"
RECEIVED_BYTES = "otelstream.received.bytes"
DEADLINE = "otelstream.deadline"

STREAM_STATE = "otelstream.stream.state"
STREAM_STATE_OPEN = "open"
INTERVAL_INDEX = "otelstream.interval.index"
STREAM_AGE = "otelstream.stream.age"
STREAM_IDLE = "otelstream.stream.idle"
WINDOW_SENT_COUNT = "otelstream.interval.sent.message_count"
WINDOW_RECEIVED_COUNT = "otelstream.interval.received.message_count"
WINDOW_SENT_BYTES = "otelstream.interval.sent.bytes"
WINDOW_RECEIVED_BYTES = "otelstream.interval.received.bytes"
MEMORY_DELTA = "otelstream.memory.delta"
MESSAGES_RETAINED = "otelstream.messages.retained"
STREAMS_OPEN = "otelstream.streams.open"
MESSAGES_UNLISTED = "otelstream.messages.unlisted"

LEAK_EVENT = "otelstream.leak"
LEAK_KIND = "otelstream.leak.kind"
LEAK_HOLDER = "otelstream.leak.holder"
LEAK_GROWTH = "otelstream.leak.growth"  # per minute, in LEAK_UNIT
LEAK_UNIT = "otelstream.leak.unit"
LEAK_ADVICE = "otelstream.leak.advice"

MESSAGE_EVENT = "rpc.message"
MESSAGE_TYPE = "rpc.message.type"
MESSAGE_ID = "rpc.message.id"
MESSAGE_SIZE = "rpc.message.uncompressed_size"

METRIC_CALL_DURATION = {Side.SERVER: "rpc.server.call.duration", Side.CLIENT: "rpc.client.call.duration"}
METRIC_STREAMS_OPEN = "otelstream.streams.open"
METRIC_STREAMS_ENDED = "otelstream.streams.ended"
METRIC_AGE_MAX = "otelstream.stream.age.max"
METRIC_IDLE_MAX = "otelstream.stream.idle.max"
METRIC_MESSAGES = "otelstream.messages"
METRIC_MESSAGE_IO = "otelstream.message.io"
METRIC_MESSAGES_RETAINED = "otelstream.messages.retained"
METRIC_MESSAGES_RETAINED_SIZE = "otelstream.messages.retained.size"
METRIC_TASKS_OUTLIVING = "otelstream.tasks.outliving"
METRIC_THREADS_OUTLIVING = "otelstream.threads.outliving"
METRIC_MEMORY_USAGE = "otelstream.memory.usage"
MEMORY_KIND = "otelstream.memory.kind"
METRIC_CONTAINER_MEMORY_USAGE = "container.memory.usage"
METRIC_CONTAINER_MEMORY_WORKING_SET = "container.memory.working_set"
METRIC_CONTAINER_MEMORY_AVAILABLE = "container.memory.available"
SIDE = "otelstream.side"
DIRECTION = "otelstream.direction"
THREAD_NAME = "thread.name"
TASK = "otelstream.task"

DURATION_BUCKETS_S = (
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10),
    *(60, 300, 1800, 3600, 21600, 86400),
)
"""The conventions' buckets, then up to a day: streams stay open for hours."""

_CODES = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
    *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED"),
    *("INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
)
CODE_NUMBERS = {name: number for number, name in enumerate(_CODES)}
"""gRPC status codes by name: https://grpc.io/docs/guides/status-codes/"""

_SERVER_ERRORS = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})

AttributeValue = str | int | float
Attributes = dict[str, AttributeValue]


class Spelling(Enum):
    """Which names the spans carry: ``OTEL_SEMCONV_STABILITY_OPT_IN``."""

    NEW = "rpc"
    OLD = "rpc/old"
    BOTH = "rpc/dup"

    @classmethod
    def from_opt_in(cls, value: str | None) -> Spelling:
        """Read the comma-separated opt-in list; other domains' entries are not ours to judge."""
        words = {word.strip() for word in (value or "").split(",")}
        if cls.BOTH.value in words:
            return cls.BOTH
        return cls.OLD if cls.OLD.value in words and cls.NEW.value not in words else cls.NEW


def span_name(call: Call, spelling: Spelling) -> str:
    """``pkg.Service/Method``; the old spelling has a leading slash."""
    return f"/{call.method}" if spelling is Spelling.OLD else call.method


def error_type(call: Call) -> str | None:
    """``error.type``, or None when the call did not fail (semantic conventions, "gRPC": servers fail by six codes)."""
    if call.code is None:
        return call.error_type
    if call.code == "OK" or (call.side is Side.SERVER and call.code not in _SERVER_ERRORS):
        return None
    return call.code


def start_attributes(call: Call, spelling: Spelling) -> Attributes:
    """What is known when the stream span starts, for samplers to see."""
    attributes: Attributes = {RPC_TYPE: call.rpc_type.value}
    if spelling is not Spelling.NEW:
        service, _, method = call.method.rpartition("/")
        attributes |= {OLD_RPC_SYSTEM: "grpc", OLD_RPC_SERVICE: service, RPC_METHOD: method}
    if spelling is not Spelling.OLD:
        attributes |= {RPC_SYSTEM_NAME: "grpc", RPC_METHOD: call.method}
        if call.original_method is not None:
            attributes[RPC_METHOD_ORIGINAL] = call.original_method
    return attributes | _ends_and_deadline(call, spelling)


def identity_attributes(call: Call, spelling: Spelling) -> Attributes:
    """Whose stream an interval span is of: its stream span, which says so too, may never come."""
    attributes: Attributes = {RPC_METHOD: call.method, RPC_TYPE: call.rpc_type.value, SIDE: call.side.value}
    return attributes | _ends_and_deadline(call, spelling)


def end_attributes(call: Call, spelling: Spelling) -> Attributes:
    """What is known when the call has ended."""
    outcome = call.outcome or Outcome.ERROR
    attributes: Attributes = {
        OUTCOME: outcome.value,
        SENT_COUNT: call.sent.count,
        RECEIVED_COUNT: call.received.count,
        SENT_BYTES: call.sent.size,
        RECEIVED_BYTES: call.received.size,
    }
    if call.code is not None:
        if spelling is not Spelling.NEW:
            attributes[OLD_RPC_GRPC_STATUS_CODE] = CODE_NUMBERS.get(call.code, CODE_NUMBERS["UNKNOWN"])
        if spelling is not Spelling.OLD:
            attributes[RPC_STATUS_CODE] = call.code
    error = error_type(call)
    if error is not None:
        attributes[ERROR_TYPE] = error
    return attributes


def duration_attributes(call: Call) -> Attributes:
    """Attributes of ``rpc.*.call.duration``. A server's own address comes from the peer's request: not on a metric."""
    attributes: Attributes = {RPC_SYSTEM_NAME: "grpc", RPC_METHOD: call.method}
    if call.side is Side.CLIENT:
        _add_address(attributes, call.target, SERVER_ADDRESS, SERVER_PORT)
    if call.code is not None:
        attributes[RPC_STATUS_CODE] = call.code
    error = error_type(call)
    if error is not None:
        attributes[ERROR_TYPE] = error
    return attributes


def _add_address(
    attributes: Attributes, address: tuple[str, int | None] | None, host_name: str, port_name: str
) -> None:
    if address is None:
        return
    host, port = address
    attributes[host_name] = host
    if port is not None:
        attributes[port_name] = port


def _ends_and_deadline(call: Call, spelling: Spelling) -> Attributes:
    """The addresses of both ends and the deadline, as far as they are known."""
    attributes: Attributes = {}
    if spelling is not Spelling.NEW:
        attributes |= _old_peer_attributes(call)
    if spelling is not Spelling.OLD:
        _add_address(attributes, call.target, SERVER_ADDRESS, SERVER_PORT)
        _add_address(attributes, call.peer, NETWORK_PEER_ADDRESS, NETWORK_PEER_PORT)
    if call.deadline_s is not None:
        attributes[DEADLINE] = call.deadline_s
    return attributes


def _old_peer_attributes(call: Call) -> Attributes:
    if call.side is not Side.SERVER or call.peer is None or call.peer[1] is None:
        return {}
    host, port = call.peer
    attributes: Attributes = {OLD_NET_PEER_IP: f"[{host}]" if ":" in host else host, OLD_NET_PEER_PORT: str(port)}
    if host in ("::1", "127.0.0.1"):
        attributes[OLD_NET_PEER_NAME] = "localhost"
    return attributes

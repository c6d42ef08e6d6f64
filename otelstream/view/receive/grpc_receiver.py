"""OTLP over gRPC. Source: https://opentelemetry.io/docs/specs/otlp/#otlpgrpc"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError  # another class than TimeoutError before 3.11
from contextlib import contextmanager
from functools import partial
from typing import NoReturn

import grpc
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]  # has stubs, but no py.typed
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]  # has stubs, but no py.typed

from otelstream.view.access import Access, Refused
from otelstream.view.intake import Busy, Intake, Reason, Signal
from otelstream.view.receive import decode
from otelstream.view.receive.answers import COMMIT_TIMEOUT_S, response_to, too_slow
from otelstream.view.receive.listening import PortBusy, bind
from otelstream.view.receive.services import SERVICES

MESSAGE_TIMEOUT_S = 10.0
"""For the message of a call to arrive."""
_THREADS = "otelstream-view-grpc"
_WORKERS = 16
"""Each has one call: waits for its message and then for the commit."""
_CALLS = 256
"""At once. What waits for a worker has sent no more than a window of HTTP/2."""
_STOP_S = 2.0
"""For calls to end when the receiver stops."""
_GZIP = b"\x1f\x8b"
_ZLIB = b"\x78"
_OPTIONS = (
    ("grpc.so_reuseport", 0),  # else two viewers share a port, and each has half
    # What is less than twice too large is received, to be told why and counted: grpcio only says RESOURCE_EXHAUSTED.
    ("grpc.max_receive_message_length", 2 * decode.LIMIT),
    # grpcio 1.60 unpacks all of a message before it looks at the limit: 1 MB of gzip took 1 GB of memory.
    ("grpc.per_message_decompression", 0),
)
_METHODS = {f"/{service.name}/Export": signal for signal, service in SERVICES.items()}


class GrpcReceiver:
    """``Export`` of traces, metrics, logs and profiles, on threads named ``otelstream-view-grpc``.

    Raises ``ValueError`` for another ``host`` than loopback without a ``token``.
    """

    def __init__(self, intake: Intake, host: str, port: int, token: str | None = None) -> None:
        self._host = host
        self._methods = _Methods(intake, Access(host, token))
        self._server: grpc.Server | None = None
        self.port = port
        """The one listened on once it has started; 0 stands for any."""

    def start(self) -> None:
        """Raises ``PortBusy``, and ``CannotListen`` for an address of another machine."""
        with bind(self._host, self.port) as tried:  # grpcio tells no more than that it failed
            host = tried.getsockname()[0]
        self._workers = ThreadPoolExecutor(_WORKERS, _THREADS)
        server = grpc.server(self._workers, [self._methods], options=_OPTIONS, maximum_concurrent_rpcs=_CALLS)
        try:
            port = server.add_insecure_port(f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}")
        except RuntimeError:  # somebody was faster
            port = 0
        if port == 0:
            server.stop(None)
            raise PortBusy(self.port)
        self.port = port
        self._methods.late.start()
        server.start()
        self._server = server

    def stop(self) -> None:
        """Take no more calls, and wait for those there are for 2 s."""
        server, self._server = self._server, None
        if server is None:
            return
        server.stop(_STOP_S).wait()
        self._methods.late.stop()
        self._workers.shutdown()


class _Methods(grpc.GenericRpcHandler):
    """Handlers that see bytes: how many there are, and that they may be no protobuf.

    They are of the kind that reads a stream, which begins before the message has come: who has no token sends none,
    and who sends none is cut off.
    """

    def __init__(self, intake: Intake, access: Access) -> None:
        self._intake = intake
        self._access = access
        self.late = _Late()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        signal = _METHODS.get(handler_call_details.method)
        if signal is None:  # grpcio answers UNIMPLEMENTED
            return None
        return grpc.stream_unary_rpc_method_handler(partial(self._export, signal))

    def _export(self, signal: Signal, messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        self._check_token(context)
        with self.late.watch(context):
            body = next(messages, None)
        if body is None:  # the call is over, or has none
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "The call has no message.")
        try:
            request, size = decode.decode(signal, body, decode.PROTOBUF, _encoding_of(body))
            taken = self._intake.take(signal, request, size).result(COMMIT_TIMEOUT_S)
        except decode.Undecodable as error:
            self._intake.count(error.reason, example=f"gRPC {signal.value}: {error.why}")
            # SDKs send again what is RESOURCE_EXHAUSTED, and it would be as large.
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, error.why)
        except Busy as busy:
            _abort_busy(context, busy)
        except FutureTimeoutError:
            _abort_busy(context, too_slow())
        return response_to(signal, taken).SerializeToString()

    def _check_token(self, context: grpc.ServicerContext) -> None:
        metadata = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        try:
            self._access.check_bearer(metadata.get("authorization", ""))
        except Refused as refused:
            self._intake.count(Reason.REFUSED, example="gRPC: without the token")
            context.abort(grpc.StatusCode.UNAUTHENTICATED, refused.why)


def _encoding_of(body: bytes) -> str:
    """How ``body`` is compressed. grpcio does not tell, but no OTLP request begins with such a field."""
    if body.startswith(_GZIP):
        return "gzip"
    return "deflate" if body.startswith(_ZLIB) else "identity"


def _abort_busy(context: grpc.ServicerContext, busy: Busy) -> NoReturn:
    retry = RetryInfo()
    retry.retry_delay.FromNanoseconds(int(busy.retry_after_s * 1e9))
    status = Status(code=grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], message=busy.why)
    status.details.add().Pack(retry)
    context.set_trailing_metadata(
        (
            ("grpc-status-details-bin", status.SerializeToString()),
            ("google.rpc.retryinfo-bin", retry.SerializeToString()),  # where OpenTelemetry's Python SDK looks
        )
    )
    context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, busy.why)


class _Late:
    """Cuts off calls whose message does not come, on a thread of its own: grpcio waits for it without end."""

    def __init__(self) -> None:
        self._waiting: dict[grpc.ServicerContext, float] = {}
        """Until when, on the monotonic clock."""
        self._stopping = threading.Event()

    def start(self) -> None:
        self._stopping.clear()
        self._thread = threading.Thread(target=self._loop, name=f"{_THREADS}-late", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    @contextmanager
    def watch(self, context: grpc.ServicerContext) -> Iterator[None]:
        """Cancel the call when this lasts for ``MESSAGE_TIMEOUT_S``."""
        self._waiting[context] = time.monotonic() + MESSAGE_TIMEOUT_S
        try:
            yield
        finally:
            del self._waiting[context]

    def _loop(self) -> None:
        while not self._stopping.wait(MESSAGE_TIMEOUT_S / 10):
            now = time.monotonic()
            for context, end in self._waiting.copy().items():
                if end < now:
                    context.cancel()

"""OTLP over HTTP. Source: https://opentelemetry.io/docs/specs/otlp/#otlphttp"""

from __future__ import annotations

import asyncio
import math
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from http import HTTPStatus

import uvicorn
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]  # has stubs, but no py.typed
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message as ASGIMessage
from starlette.types import Receive, Scope, Send

from otelstream.view.access import Access, Refused
from otelstream.view.intake import Busy, Intake, Reason, Signal, Taken
from otelstream.view.receive import decode
from otelstream.view.receive.answers import COMMIT_TIMEOUT_S, response_to, too_slow
from otelstream.view.receive.http_protocol import BoundedProtocol
from otelstream.view.receive.listening import listen
from otelstream.view.receive.services import SERVICES

BODY_TIMEOUT_S = 10.0
"""For the body of a request to arrive, as an SDK waits for an export."""
BODIES_LIMIT = 8 * decode.LIMIT
"""By of all bodies at once; who comes next is asked to try again."""
_THREAD = "otelstream-view-http"
_CONNECTIONS = 512
"""At once; an SDK keeps one open for each signal."""
_KEEP_ALIVE_S = 75.0
"""Longer than the minute between two exports of metrics, so that none meets a connection just closed."""
_DECODED_AT_ONCE = 2
_STOP_S = 2.0
"""For requests to be answered when the receiver stops."""
_DRAINED = 1024 * 1024
"""By that a refused sender may still send, and"""
_DRAINED_S = 1.0
"""s that it has for it, so that it reads the refusal before the connection is gone."""
_PATHS = {service.path: signal for signal, service in SERVICES.items()}


class HttpReceiver:
    """POST of traces, metrics, logs and profiles, on threads named ``otelstream-view-http``."""

    def __init__(self, intake: Intake, host: str, port: int, access: Access) -> None:
        self._intake = intake
        self._host = host
        self._access = access
        self._server: uvicorn.Server | None = None
        self.port = port
        """The one listened on once it has started; 0 stands for any."""

    def start(self) -> None:
        """Raises ``PortBusy``, and ``CannotListen`` for an address of another machine."""
        listener = listen(self._host, self.port)
        self.port = listener.getsockname()[1]
        self._decoders = ThreadPoolExecutor(_DECODED_AT_ONCE, f"{_THREAD}-decode")
        config = uvicorn.Config(
            _Endpoints(self._intake, self._access, self._decoders),
            http=BoundedProtocol,
            loop="asyncio",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=_CONNECTIONS,
            timeout_keep_alive=int(_KEEP_ALIVE_S),
            timeout_graceful_shutdown=int(_STOP_S),
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([listener],), name=_THREAD, daemon=True)
        self._thread.start()  # who connects before the loop runs waits in the backlog

    def stop(self) -> None:
        """Take no more requests, and wait for those there are for 2 s."""
        server, self._server = self._server, None
        if server is None:
            return
        server.should_exit = True
        self._thread.join()
        self._decoders.shutdown()


class _Endpoints:
    """The ASGI application. On one event loop."""

    def __init__(self, intake: Intake, access: Access, decoders: ThreadPoolExecutor) -> None:
        self._intake = intake
        self._access = access
        self._decoders = decoders
        self._held = 0
        """By of the bodies in memory."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = _Body(receive)
        request = Request(scope, body.receive)
        with suppress(ClientDisconnect):
            response = await self._answer(request)
            if body.is_read:
                await response(scope, receive, send)
            else:
                await _answer_early(response, body, send)

    async def _answer(self, request: Request) -> Response:
        try:
            return _message(request, await self._export(request))
        except Refused as refused:
            return _error(request, refused.status, refused.why, refused.headers)
        except decode.Undecodable as error:
            self._intake.count(error.reason, example=f"HTTP {request.url.path}: {error.why}")
            return _error(request, error.status, error.why)
        except Busy as busy:
            # Not 429, after which older Python SDKs (1.27) do not send again.
            retry_after = {"Retry-After": str(math.ceil(busy.retry_after_s))}
            return _error(request, HTTPStatus.SERVICE_UNAVAILABLE, busy.why, retry_after)

    async def _export(self, request: Request) -> Message:
        try:
            self._access.check(request.headers)
        except Refused as refused:
            self._intake.count(Reason.REFUSED, example=f"HTTP: {refused.status.phrase}")
            raise
        signal = _signal_of(request)
        body = bytearray()
        try:
            await self._read(request, body)
            return response_to(signal, await self._kept(signal, bytes(body), request.headers))
        finally:
            self._held -= len(body)

    async def _read(self, request: Request, body: bytearray) -> None:
        """Add what comes to ``body``, as long as it is allowed to."""
        if int(request.headers.get("content-length", "0")) > decode.LIMIT:
            raise decode.too_large()
        try:
            await asyncio.wait_for(self._read_all(request, body), BODY_TIMEOUT_S)
        except asyncio.TimeoutError:
            raise Refused(
                HTTPStatus.REQUEST_TIMEOUT, f"The body was not there after {BODY_TIMEOUT_S:g} s. Send it again."
            ) from None

    async def _read_all(self, request: Request, body: bytearray) -> None:
        async for chunk in request.stream():
            if len(body) + len(chunk) > decode.LIMIT:
                raise decode.too_large()
            if self._held + len(chunk) > BODIES_LIMIT:
                raise Busy("Too many requests are being received. Send it again.")
            body += chunk
            self._held += len(chunk)

    async def _kept(self, signal: Signal, body: bytes, headers: Headers) -> Taken:
        """What the intake answers. Decoding takes up to seconds, so it is not on the event loop."""
        kept = await asyncio.get_running_loop().run_in_executor(self._decoders, self._take, signal, body, headers)
        committed = asyncio.Event()
        loop = asyncio.get_running_loop()

        def wake(_: Future[Taken]) -> None:
            with suppress(RuntimeError):  # the receiver has stopped
                loop.call_soon_threadsafe(committed.set)

        # Not asyncio.wrap_future(): it cancels the store's future when nobody waits any more.
        kept.add_done_callback(wake)
        try:
            await asyncio.wait_for(committed.wait(), COMMIT_TIMEOUT_S)
        except asyncio.TimeoutError:
            raise too_slow() from None
        return kept.result()

    def _take(self, signal: Signal, body: bytes, headers: Headers) -> Future[Taken]:
        content_type, encoding = headers.get("content-type", ""), headers.get("content-encoding", "")
        return self._intake.take(signal, *decode.decode(signal, body, content_type, encoding))


class _Body:
    """What comes of a request, and whether that is all of it."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.is_read = False

    async def receive(self) -> ASGIMessage:
        message = await self._receive()
        self.is_read = not message.get("more_body", False)
        return message

    async def drain(self) -> None:
        """Read on, and forget."""
        left = _DRAINED
        while left > 0 and not self.is_read:
            left -= len((await self.receive()).get("body", b""))


async def _answer_early(response: Response, body: _Body, send: Send) -> None:
    """Answer before all of the request is there, and close the connection.

    What is still sent is read for a while: closing a socket with unread data resets the connection, and the answer is
    lost with it.
    """
    response.headers["Connection"] = "close"
    await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
    await send({"type": "http.response.body", "body": response.body, "more_body": True})
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(body.drain(), _DRAINED_S)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _signal_of(request: Request) -> Signal:
    """What is sent to the path. Raises ``Refused``."""
    signal = _PATHS.get(request.url.path)
    if signal is None:
        raise Refused(
            HTTPStatus.NOT_FOUND,
            f"There is nothing here but {', '.join(_PATHS)}: OTEL_EXPORTER_OTLP_ENDPOINT is set without a path.",
        )
    if request.method != "POST":
        raise Refused(
            HTTPStatus.METHOD_NOT_ALLOWED,
            "OTLP is sent with POST. The page to look at is at another port.",
            {"Allow": "POST"},
        )
    return signal


def _error(request: Request, status: HTTPStatus, why: str, headers: dict[str, str] | None = None) -> Response:
    return _message(request, Status(message=why), status, headers)


def _message(
    request: Request, message: Message, status: HTTPStatus = HTTPStatus.OK, headers: dict[str, str] | None = None
) -> Response:
    """``message`` in the encoding of the request; in JSON, which can be read, when it has another."""
    if decode.media_type_of(request.headers.get("content-type", "")) == decode.PROTOBUF:
        return Response(message.SerializeToString(), status, headers, decode.PROTOBUF)
    return Response(MessageToJson(message, indent=None), status, headers, decode.JSON)

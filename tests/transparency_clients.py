"""For the tests of clients: the methods of their servers, and calls to them as scenarios.

The fixtures are in ``tests.transparency_client_fixtures``. Messages are raw bytes where a test does not say otherwise.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc

from otelstream.testing import Service, Telemetry

OLD_GRPCIO = tuple(map(int, grpc.__version__.split(".")[:2])) < (1, 63)
REGISTERS_METHODS = "_registered_method" in grpc.Channel.unary_unary.__code__.co_varnames
"""Does this grpcio, and the code it generates, know methods by handles?"""

KINDS = {
    "unary_unary": "/t.S/Echo",
    "unary_stream": "/t.S/Numbers",
    "stream_unary": "/t.S/Join",
    "stream_stream": "/t.S/Chat",
}
DESCRIBE = {
    "unary_unary": "/t.S/Describe",
    "unary_stream": "/t.S/DescribeDown",
    "stream_unary": "/t.S/DescribeUp",
    "stream_stream": "/t.S/DescribeChat",
}
"""Methods that answer with the user's own metadata as the server sees it."""


# --- what the server does -------------------------------------------------------------------------------------------


class CountingService(Service):
    """Notes every call that reaches it, independently of what is recorded."""

    def __init__(self, name: str, **methods: Any) -> None:
        super().__init__(name, **methods)
        self.reached: list[str] = []

    def service(self, handler_call_details: Any) -> Any:
        self.reached.append(handler_call_details.method)
        return super().service(handler_call_details)


class Waiting:
    """Handlers that wait until their call ends; ``seen_end`` is set when that happened."""

    def __init__(self) -> None:
        self.seen_end = threading.Event()

    def _until_end_of(self, context: Any) -> threading.Event:
        ended = threading.Event()

        def tell() -> None:
            ended.set()
            self.seen_end.set()

        if not context.add_callback(tell):
            tell()  # it was over before the handler started
        return ended

    def unary(self, request: bytes, context: Any) -> bytes:
        self._until_end_of(context).wait(20)
        return request

    def stream(self, request: bytes, context: Any) -> Iterator[bytes]:
        ended = self._until_end_of(context)
        yield request
        ended.wait(20)


def _describe(_request: bytes, context: Any) -> bytes:
    """What the server sees of the caller: ``key=value`` lines of the user's own metadata, in order."""
    return b"\n".join(
        key.encode() + b"=" + (value if isinstance(value, bytes) else value.encode())
        for key, value in context.invocation_metadata()
        if key.startswith("x-") or key == "authorization"
    )


def _describe_chat(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
    for request in requests:
        yield _describe(request, context)


def _add_metadata(request: bytes, context: Any) -> bytes:
    context.send_initial_metadata((("x-initial", "1"),))
    context.set_trailing_metadata((("x-trailing", "2"), ("x-trailing-bin", b"\x00\xff")))
    return request


def _add_metadata_in_stream(request: bytes, context: Any) -> Iterator[bytes]:
    _add_metadata(request, context)
    yield from (request[:1], request[1:])


def _fail(request: bytes, context: Any) -> bytes:
    context.set_trailing_metadata((("x-why", "because"),))
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no " + request.decode())
    raise AssertionError("abort() does not return")


def _fail_in_stream(request: bytes, context: Any) -> Iterator[bytes]:
    yield request
    _fail(request, context)


def make_service(waiting: Waiting) -> CountingService:
    """The methods that the tests call."""
    return CountingService(
        "t.S",
        Echo=("unary_unary", lambda request, _context: request),
        Numbers=("unary_stream", lambda request, _context: iter([b"%d" % n for n in range(int(request))])),
        Join=("stream_unary", lambda requests, _context: b"".join(requests)),
        Chat=("stream_stream", lambda requests, _context: (request * 2 for request in requests)),
        Describe=("unary_unary", _describe),
        DescribeDown=("unary_stream", lambda request, context: iter([_describe(request, context)])),
        DescribeUp=("stream_unary", lambda requests, context: _describe(b"".join(requests), context)),
        DescribeChat=("stream_stream", _describe_chat),
        Metadata=("unary_unary", _add_metadata),
        MetadataStream=("unary_stream", _add_metadata_in_stream),
        Fail=("unary_unary", _fail),
        FailStream=("unary_stream", _fail_in_stream),
        Wait=("unary_unary", waiting.unary),
        WaitStream=("unary_stream", waiting.stream),
    )


@contextmanager
def listening(service: Service, address: str, credentials: Any = None) -> Iterator[int]:
    """A server at ``address``; its port."""
    server = grpc.server(ThreadPoolExecutor(8), handlers=[service])
    port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()


# --- what the client does -------------------------------------------------------------------------------------------


def assert_recorded(recorded: Telemetry | None, calls: int) -> None:
    """With us, there is one span for each of the calls made so far."""
    assert recorded is None or len(recorded.stream_spans("client", calls)) == calls


def request_of(kind: str, message: bytes = b"1") -> Any:
    """A request for a method of that kind: the message, or an iterator of it."""
    return iter([message]) if kind.startswith("stream") else message


def seen_by_server(channel: Any, kind: str, *args: Any, **kwargs: Any) -> bytes:
    """Call the ``DESCRIBE`` method of that kind; its answer."""
    made = getattr(channel, kind)(DESCRIBE[kind])(request_of(kind, b""), *args, **kwargs)
    return bytes(next(made) if kind.endswith("stream") else made)


def on_channel(target: str, act: Callable[[Any], Any]) -> Callable[[], Any]:
    """A scenario for ``same_with_us``: do this with a channel."""

    def scenario() -> Any:
        with grpc.insecure_channel(target) as channel:
            return act(channel)

    return scenario


def on_aio_channel(target: str, act: Callable[[Any], Any]) -> Callable[[], Any]:
    """The same on asyncio."""

    async def scenario() -> Any:
        async with grpc.aio.insecure_channel(target) as channel:
            return await act(channel)

    return scenario


def calling(target: str, kind: str, *codecs: Any, **kwargs: Any) -> Callable[[], Any]:
    """A scenario for ``same_with_us``: one sync call and all that it answers."""

    def act(channel: Any) -> Any:
        made = getattr(channel, kind)(KINDS[kind], *codecs)(request_of(kind), **kwargs)
        return list(made) if kind.endswith("stream") else made

    return on_channel(target, act)


def aio_calling(target: str, kind: str, *codecs: Any, **kwargs: Any) -> Callable[[], Any]:
    """The same on asyncio."""

    async def act(channel: Any) -> Any:
        call = getattr(channel, kind)(KINDS[kind], *codecs)(request_of(kind), **kwargs)
        return [message async for message in call] if kind.endswith("stream") else await call

    return on_aio_channel(target, act)

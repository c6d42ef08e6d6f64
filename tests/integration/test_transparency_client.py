"""A client's own objects behave exactly as without us.

Most tests run twice, bare and instrumented, and assert the same; mistakes are made both ways in one test, which
compares what comes of them. The servers are bare. Messages are raw bytes where a test does not say otherwise.
"""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import grpc._channel
import grpc.experimental
import grpc.experimental.aio
import pytest

from otelstream.testing import Service, Telemetry, serving
from tests.transparency import Tls, byte_counting_proxy, free_port, same_with_us

OLD_GRPCIO = tuple(map(int, grpc.__version__.split(".")[:2])) < (1, 63)

bound_insecure_channel = grpc.insecure_channel
bound_aio_insecure_channel = grpc.aio.insecure_channel
"""Bound before anything is instrumented, as applications do with ``from grpc import insecure_channel``."""


@pytest.fixture(params=["bare", "instrumented"])
def recorded(request: pytest.FixtureRequest) -> Telemetry | None:
    """What is recorded; None without us. A test that takes this, or ``target``, runs both ways."""
    if request.param == "bare":
        return None
    telemetry: Telemetry = request.getfixturevalue("instrumented")
    return telemetry


def assert_recorded(recorded: Telemetry | None, calls: int) -> None:
    """With us, there is one span for each of the calls made so far: the test did compare something."""
    assert recorded is None or len(recorded.stream_spans("client", calls)) == calls


# --- the servers ----------------------------------------------------------------------------------------------------


def describe(_request: bytes, context: Any) -> bytes:
    """What the server sees of the caller: ``key=value`` lines of the user's own metadata, in order."""
    return b"\n".join(
        key.encode() + b"=" + (value if isinstance(value, bytes) else value.encode())
        for key, value in context.invocation_metadata()
        if key.startswith("x-") or key == "authorization"
    )


def describe_chat(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
    for request in requests:
        yield describe(request, context)


def add_metadata(request: bytes, context: Any) -> bytes:
    context.send_initial_metadata((("x-initial", "1"),))
    context.set_trailing_metadata((("x-trailing", "2"), ("x-trailing-bin", b"\x00\xff")))
    return request


def add_metadata_in_stream(request: bytes, context: Any) -> Iterator[bytes]:
    add_metadata(request, context)
    yield from (request[:1], request[1:])


def fail(request: bytes, context: Any) -> bytes:
    context.set_trailing_metadata((("x-why", "because"),))
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no " + request.decode())
    raise AssertionError("abort() does not return")


def fail_in_stream(request: bytes, context: Any) -> Iterator[bytes]:
    yield request
    fail(request, context)


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


@pytest.fixture
def waiting() -> Waiting:
    return Waiting()


@pytest.fixture
def service(waiting: Waiting) -> Service:
    return Service(
        "t.S",
        Echo=("unary_unary", lambda request, _context: request),
        Numbers=("unary_stream", lambda request, _context: iter([b"%d" % n for n in range(int(request))])),
        Join=("stream_unary", lambda requests, _context: b"".join(requests)),
        Chat=("stream_stream", lambda requests, _context: (request * 2 for request in requests)),
        Describe=("unary_unary", describe),
        DescribeDown=("unary_stream", lambda request, context: iter([describe(request, context)])),
        DescribeUp=("stream_unary", lambda requests, context: describe(b"".join(requests), context)),
        DescribeChat=("stream_stream", describe_chat),
        Metadata=("unary_unary", add_metadata),
        MetadataStream=("unary_stream", add_metadata_in_stream),
        Fail=("unary_unary", fail),
        FailStream=("unary_stream", fail_in_stream),
        Wait=("unary_unary", waiting.unary),
        WaitStream=("unary_stream", waiting.stream),
    )


@pytest.fixture
def bare_target(service: Service) -> Iterator[str]:
    """The address of a server, for tests that instrument by themselves."""
    with serving(service) as port:
        yield f"127.0.0.1:{port}"


@pytest.fixture
def target(bare_target: str, recorded: Telemetry | None) -> str:
    """The address of a server that was there before the client was instrumented."""
    return bare_target


@pytest.fixture
def channel(target: str) -> Iterator[Any]:
    with grpc.insecure_channel(target) as channel:
        yield channel


@pytest.fixture(scope="module")
def tls() -> Tls:
    return Tls.make()


@pytest.fixture
def secure_target(tls: Tls, service: Service, recorded: Telemetry | None) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(8), handlers=[service])
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(tls.key, tls.certificate)]))
    server.start()
    yield f"localhost:{port}"
    server.stop(None).wait()


# --- metadata -------------------------------------------------------------------------------------------------------

PAIRS = (("x-a", "1"), ("x-b", "2"), ("x-a", "3"), ("x-c-bin", b"\x00\x01\xff"))
SEEN = b"x-a=1\nx-b=2\nx-a=3\nx-c-bin=\x00\x01\xff"
DESCRIBE = {
    "unary_unary": "/t.S/Describe",
    "unary_stream": "/t.S/DescribeDown",
    "stream_unary": "/t.S/DescribeUp",
    "stream_stream": "/t.S/DescribeChat",
}


def seen_by_server(channel: Any, kind: str, *args: Any, **kwargs: Any) -> bytes:
    request: Any = iter([b""]) if kind.startswith("stream") else b""
    made = getattr(channel, kind)(DESCRIBE[kind])(request, *args, **kwargs)
    return bytes(next(made) if kind.endswith("stream") else made)


@pytest.mark.parametrize("given", [None, (), PAIRS, list(PAIRS)], ids=["none", "empty", "tuple", "list"])
def test_metadata_arrives_as_it_was_given(channel: Any, given: Any) -> None:
    before = list(given) if isinstance(given, list) else given
    for kind in DESCRIBE:
        assert seen_by_server(channel, kind, metadata=given) == (SEEN if given else b"")
        assert seen_by_server(channel, kind, 20, given) == (SEEN if given else b"")
    assert given == before


@pytest.mark.parametrize(
    "given",
    [None, (), PAIRS, list(PAIRS), grpc.aio.Metadata(*PAIRS)],
    ids=["none", "empty", "tuple", "list", "Metadata"],
)
def test_aio_metadata_arrives_as_it_was_given(target: str, given: Any) -> None:
    """``grpc.aio.Metadata``, which newer grpcio makes of all metadata, groups entries by key."""
    before = None if given is None else list(given)

    def by_key(lines: bytes) -> list[bytes]:  # sorting is stable: values of the same key keep their order
        return sorted(lines.split(b"\n"), key=lambda line: line.split(b"=")[0])

    async def scenario() -> None:
        async with grpc.aio.insecure_channel(target) as channel:
            for kind, method in DESCRIBE.items():
                request = iter([b""]) if kind.startswith("stream") else b""
                call = getattr(channel, kind)(method)(request, metadata=given)
                answer = await call.read() if kind.endswith("stream") else await call
                assert by_key(answer) == by_key(SEEN if given else b"")

    asyncio.run(scenario())
    assert (None if given is None else list(given)) == before


def test_initial_and_trailing_metadata(channel: Any) -> None:
    trailing = [("x-trailing", "2"), ("x-trailing-bin", b"\x00\xff")]
    answer, call = channel.unary_unary("/t.S/Metadata").with_call(b"ab")
    assert answer == b"ab"
    assert [tuple(entry) for entry in call.initial_metadata()] == [("x-initial", "1")]
    assert [tuple(entry) for entry in call.trailing_metadata()] == trailing

    stream = channel.unary_stream("/t.S/MetadataStream")(b"ab")
    assert [tuple(entry) for entry in stream.initial_metadata()] == [("x-initial", "1")]
    assert list(stream) == [b"a", b"b"]
    assert [tuple(entry) for entry in stream.trailing_metadata()] == trailing


def test_aio_initial_and_trailing_metadata(target: str) -> None:
    async def scenario() -> None:
        async with grpc.aio.insecure_channel(target) as channel:
            unary = channel.unary_unary("/t.S/Metadata")(b"ab")
            stream = channel.unary_stream("/t.S/MetadataStream")(b"ab")
            for call in (unary, stream):
                initial = await call.initial_metadata()
                assert isinstance(initial, grpc.aio.Metadata)
                assert list(initial) == [("x-initial", "1")]
            assert await unary == b"ab"
            assert [answer async for answer in stream] == [b"a", b"b"]
            for call in (unary, stream):
                assert list(await call.trailing_metadata()) == [
                    ("x-trailing", "2"),
                    ("x-trailing-bin", b"\x00\xff"),
                ]

    asyncio.run(scenario())


# --- options of a call ----------------------------------------------------------------------------------------------


def test_wait_for_ready(recorded: Telemetry | None, service: Service) -> None:
    """Off, a call fails at once where nobody listens; on, it waits for its deadline, or for somebody to listen."""
    port = free_port()
    options = (("grpc.initial_reconnect_backoff_ms", 100), ("grpc.min_reconnect_backoff_ms", 100))
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        echo = channel.unary_unary("/t.S/Echo")
        with pytest.raises(grpc.RpcError) as failed:
            echo(b"", timeout=20)
        assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
        with pytest.raises(grpc.RpcError) as failed:
            echo(b"", timeout=0.05, wait_for_ready=True)
        assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED

        waiting = echo.future(b"late", timeout=20, wait_for_ready=True)
        server = grpc.server(ThreadPoolExecutor(8), handlers=[service])
        server.add_insecure_port(f"127.0.0.1:{port}")
        server.start()
        assert waiting.result(20) == b"late"
        server.stop(None).wait()


BIG = bytes(300_000)


@pytest.mark.parametrize("how", ["call", "channel", "none"])
def test_compression(target: str, how: str, recorded: Telemetry | None) -> None:
    """The wire carries what it carries without us; the size recorded is the message's own."""
    on_channel = grpc.Compression.Gzip if how == "channel" else None
    on_call = grpc.Compression.Deflate if how == "call" else None
    with byte_counting_proxy(target) as (address, passed):
        with grpc.insecure_channel(address, compression=on_channel) as channel:
            join = channel.stream_unary("/t.S/Join", response_deserializer=len)
            assert join(iter([BIG]), compression=on_call) == len(BIG)
        # The server answers uncompressed.
        assert (passed() < 1.5 * len(BIG)) == (how != "none")
    if recorded is not None:
        attributes = recorded.span("client").attributes or {}
        assert attributes["otelstream.sent.bytes"] == len(BIG)


@pytest.mark.parametrize("how", ["call", "channel", "none"])
def test_aio_compression(target: str, how: str) -> None:
    async def scenario(address: str) -> None:
        on_channel = grpc.Compression.Gzip if how == "channel" else None
        on_call = grpc.Compression.Deflate if how == "call" else None
        async with grpc.aio.insecure_channel(address, compression=on_channel) as channel:
            assert await channel.unary_unary("/t.S/Echo")(BIG, compression=on_call) == BIG

    with byte_counting_proxy(target) as (address, passed):
        asyncio.run(scenario(address))
        assert (passed() < 1.5 * len(BIG)) == (how != "none")


# --- credentials and addresses --------------------------------------------------------------------------------------


class Token(grpc.AuthMetadataPlugin):  # type: ignore[misc]  # grpc has no types
    """Call credentials of the user's own; notes for which methods it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, context: Any, callback: Any) -> None:
        self.asked.append(context.method_name)
        callback((("authorization", "Bearer mine"),), None)


def test_tls_and_call_credentials(tls: Tls, secure_target: str) -> None:
    token = Token()
    on_channel = grpc.composite_channel_credentials(
        grpc.ssl_channel_credentials(tls.certificate), grpc.metadata_call_credentials(token)
    )
    with grpc.secure_channel(secure_target, on_channel) as channel:
        assert channel.unary_unary("/t.S/Describe")(b"") == b"authorization=Bearer mine"
        assert list(channel.unary_stream("/t.S/DescribeDown")(b"")) == [b"authorization=Bearer mine"]
    assert token.asked == ["Describe", "DescribeDown"]

    given = grpc.access_token_call_credentials("other")
    with grpc.secure_channel(secure_target, grpc.ssl_channel_credentials(tls.certificate)) as channel:
        invoke = channel.unary_unary("/t.S/Describe")
        assert invoke(b"") == b""
        assert invoke(b"", credentials=given) == b"authorization=Bearer other"
        assert invoke.with_call(b"", None, None, given)[0] == b"authorization=Bearer other"
        assert invoke.future(b"", credentials=given).result() == b"authorization=Bearer other"


def test_aio_tls_and_call_credentials(tls: Tls, secure_target: str) -> None:
    async def scenario() -> None:
        credentials = grpc.ssl_channel_credentials(tls.certificate)
        async with grpc.aio.secure_channel(secure_target, credentials) as channel:
            given = grpc.access_token_call_credentials("other")
            describe_one = channel.unary_unary("/t.S/Describe")
            assert await describe_one(b"", credentials=given) == b"authorization=Bearer other"
            call = channel.stream_stream("/t.S/DescribeChat")(iter([b""]), credentials=given)
            assert [answer async for answer in call] == [b"authorization=Bearer other"]

    asyncio.run(scenario())


def test_unix_socket(tmp_path: Path, service: Service, recorded: Telemetry | None) -> None:
    server = grpc.server(ThreadPoolExecutor(8), handlers=[service])
    address = f"unix:{tmp_path}/s"
    server.add_insecure_port(address)
    server.start()
    with grpc.insecure_channel(address) as channel:
        assert channel.unary_unary("/t.S/Echo")(b"hello") == b"hello"

    async def scenario() -> None:
        async with grpc.aio.insecure_channel(address) as aio_channel:
            assert await aio_channel.unary_unary("/t.S/Echo")(b"hello") == b"hello"

    asyncio.run(scenario())
    server.stop(None).wait()
    assert_recorded(recorded, 2)


# --- interceptors of the user's own ---------------------------------------------------------------------------------


class Tagging(
    grpc.UnaryUnaryClientInterceptor,  # type: ignore[misc]
    grpc.UnaryStreamClientInterceptor,  # type: ignore[misc]
    grpc.StreamUnaryClientInterceptor,  # type: ignore[misc]
    grpc.StreamStreamClientInterceptor,  # type: ignore[misc]
):
    """Adds an entry to the metadata it is given, and notes what that was."""

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.given: list[Any] = []

    def _intercept(self, continuation: Any, details: Any, request: Any) -> Any:
        self.given.append(details.metadata)
        return continuation(details._replace(metadata=[*(details.metadata or ()), ("x-tag", self.tag)]), request)

    intercept_unary_unary = intercept_unary_stream = _intercept
    intercept_stream_unary = intercept_stream_stream = _intercept


def test_intercept_channel(channel: Any, recorded: Telemetry | None) -> None:
    outer, inner = Tagging("outer"), Tagging("inner")
    intercepted = grpc.intercept_channel(channel, outer, inner)
    for kind in DESCRIBE:
        seen = seen_by_server(intercepted, kind, metadata=(("x-a", "1"),))
        assert seen == b"x-a=1\nx-tag=outer\nx-tag=inner"
    assert outer.given == [(("x-a", "1"),)] * 4
    assert inner.given == [[("x-a", "1"), ("x-tag", "outer")]] * 4
    assert_recorded(recorded, 4)


class Answering(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):  # type: ignore[misc]
    """Answers by itself, without a call."""

    def intercept_unary_unary(self, _continuation: Any, _details: Any, _request: Any) -> Any:
        answered: Future[bytes] = Future()
        answered.set_result(b"cached")
        return answered

    def intercept_unary_stream(self, _continuation: Any, _details: Any, _request: Any) -> Any:
        return iter([b"cached"])


def test_an_interceptor_that_answers_by_itself(channel: Any, recorded: Telemetry | None) -> None:
    intercepted = grpc.intercept_channel(channel, Answering())
    assert intercepted.unary_unary("/t.S/Echo")(b"x") == b"cached"
    assert list(intercepted.unary_stream("/t.S/Numbers")(b"3")) == [b"cached"]
    assert recorded is None or not recorded.spans.all()


async def tag(continuation: Any, details: Any, request: Any) -> Any:
    assert isinstance(details, grpc.aio.ClientCallDetails)
    details.metadata.add("x-tag", "aio")
    return await continuation(details, request)


class AioTaggingUnary(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await tag(continuation, client_call_details, request)


class AioTaggingDown(grpc.aio.UnaryStreamClientInterceptor):  # type: ignore[misc]
    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await tag(continuation, client_call_details, request)


class AioTaggingUp(grpc.aio.StreamUnaryClientInterceptor):  # type: ignore[misc]
    async def intercept_stream_unary(self, continuation: Any, client_call_details: Any, requests: Any) -> Any:
        return await tag(continuation, client_call_details, requests)


class AioTaggingChat(grpc.aio.StreamStreamClientInterceptor):  # type: ignore[misc]
    async def intercept_stream_stream(self, continuation: Any, client_call_details: Any, requests: Any) -> Any:
        return await tag(continuation, client_call_details, requests)


@pytest.mark.parametrize("position", ["keyword", "positional"])
def test_aio_interceptors(target: str, position: str, recorded: Telemetry | None) -> None:
    interceptors = [AioTaggingUnary(), AioTaggingDown(), AioTaggingUp(), AioTaggingChat()]

    async def scenario() -> None:
        if position == "keyword":
            made = grpc.aio.insecure_channel(target, interceptors=interceptors)
        else:
            made = grpc.aio.insecure_channel(target, None, None, interceptors)
        async with made as channel:
            for kind, method in DESCRIBE.items():
                request = iter([b""]) if kind.startswith("stream") else b""
                call = getattr(channel, kind)(method)(request, metadata=grpc.aio.Metadata(("x-a", "1")))
                answer = [message async for message in call] if kind.endswith("stream") else [await call]
                assert answer == [b"x-a=1\nx-tag=aio"]
                assert await call.code() is grpc.StatusCode.OK

    asyncio.run(scenario())
    assert_recorded(recorded, 4)


# --- connectivity ---------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # grpcio's, when closed
def test_connectivity(channel: Any) -> None:
    states: list[Any] = []
    ready = threading.Event()

    def told(state: Any) -> None:
        states.append(state)
        if state is grpc.ChannelConnectivity.READY:
            ready.set()

    channel.subscribe(told, try_to_connect=True)
    assert ready.wait(20)
    channel.unsubscribe(told)
    assert states[0] is grpc.ChannelConnectivity.IDLE

    future = grpc.channel_ready_future(channel)
    assert future.result(20) is None
    assert future.done()
    assert not future.cancelled()


def test_connectivity_of_an_unreachable_server(recorded: Telemetry | None) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{free_port()}") as channel:
        future = grpc.channel_ready_future(channel)
        with pytest.raises(grpc.FutureTimeoutError):
            future.result(0.01)
        assert future.cancel()
        with pytest.raises(grpc.FutureCancelledError):
            future.result()


def test_aio_connectivity(target: str) -> None:
    async def scenario() -> None:
        channel = grpc.aio.insecure_channel(target)
        assert channel.get_state() is grpc.ChannelConnectivity.IDLE
        changed = asyncio.create_task(channel.wait_for_state_change(grpc.ChannelConnectivity.IDLE))
        assert channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.IDLE
        await asyncio.wait_for(changed, 20)
        await asyncio.wait_for(channel.channel_ready(), 20)
        assert channel.get_state() is grpc.ChannelConnectivity.READY
        await channel.close()
        assert channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN

    asyncio.run(scenario())


# --- types ----------------------------------------------------------------------------------------------------------


def test_types(channel: Any) -> None:
    assert type(channel) is grpc._channel.Channel
    assert isinstance(channel.unary_unary("/t.S/Echo"), grpc.UnaryUnaryMultiCallable)
    assert isinstance(channel.unary_stream("/t.S/Numbers"), grpc.UnaryStreamMultiCallable)
    assert isinstance(channel.stream_unary("/t.S/Join"), grpc.StreamUnaryMultiCallable)
    assert isinstance(channel.stream_stream("/t.S/Chat"), grpc.StreamStreamMultiCallable)

    stream = channel.unary_stream("/t.S/Numbers")(b"1")
    future = channel.unary_unary("/t.S/Echo").future(b"x")
    for made in (stream, future):
        assert type(made) is grpc._channel._MultiThreadedRendezvous
        assert isinstance(made, grpc.Call)
        assert isinstance(made, grpc.Future)
        assert isinstance(made, grpc.RpcError)
    assert iter(stream) is stream
    assert list(stream) == [b"0"]
    assert future.result() == b"x"
    with pytest.raises(grpc.RpcError) as failed:
        channel.unary_unary("/t.S/Fail")(b"x")
    assert type(failed.value) is grpc._channel._InactiveRpcError
    assert isinstance(failed.value, grpc.Call)


def test_aio_types(target: str) -> None:
    async def scenario() -> None:
        async with grpc.aio.insecure_channel(target) as channel:
            assert type(channel) is grpc.aio._channel.Channel
            made = (
                (channel.unary_unary("/t.S/Echo"), grpc.aio.UnaryUnaryMultiCallable, grpc.aio.UnaryUnaryCall),
                (channel.unary_stream("/t.S/Numbers"), grpc.aio.UnaryStreamMultiCallable, grpc.aio.UnaryStreamCall),
                (channel.stream_unary("/t.S/Join"), grpc.aio.StreamUnaryMultiCallable, grpc.aio.StreamUnaryCall),
                (channel.stream_stream("/t.S/Chat"), grpc.aio.StreamStreamMultiCallable, grpc.aio.StreamStreamCall),
            )
            for invoke, kind_of_callable, kind_of_call in made:
                assert isinstance(invoke, kind_of_callable)
                call = invoke(iter([b"1"]) if "Stream" in kind_of_callable.__name__[:6] else b"1")
                assert isinstance(call, kind_of_call)
                assert isinstance(call, grpc.aio.Call)
                assert type(call).__module__ == "grpc.aio._call"
                call.cancel()
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await channel.unary_unary("/t.S/Fail")(b"x")
            assert type(failed.value) is grpc.aio.AioRpcError

    asyncio.run(scenario())


# --- what a call can be asked and told ------------------------------------------------------------------------------


def test_with_call(channel: Any) -> None:
    for invoke, request in (
        (channel.unary_unary("/t.S/Echo"), b"ab"),
        (channel.stream_unary("/t.S/Join"), iter([b"a", b"b"])),
    ):
        answer, call = invoke.with_call(request, timeout=20)
        assert answer == b"ab"
        assert call.code() is grpc.StatusCode.OK
        assert call.details() == ""
        assert not call.is_active()
        assert not call.add_callback(lambda: None)


@pytest.mark.parametrize("how", ["plain", "with_call", "future", "stream"])
def test_a_failed_call(channel: Any, how: str) -> None:
    invoke = channel.unary_unary("/t.S/Fail")
    ways: dict[str, Callable[[], Any]] = {
        "plain": lambda: invoke(b"way"),
        "with_call": lambda: invoke.with_call(b"way"),
        "future": lambda: invoke.future(b"way").result(),
        "stream": lambda: list(channel.unary_stream("/t.S/FailStream")(b"way")),
    }
    with pytest.raises(grpc.RpcError) as failed:
        ways[how]()
    error = failed.value
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert error.details() == "no way"
    assert "no way" in error.debug_error_string()
    assert [tuple(entry) for entry in error.trailing_metadata()] == [("x-why", "because")]
    assert error.initial_metadata() is not None
    assert "FAILED_PRECONDITION" in str(error)


def test_a_future_that_succeeds(channel: Any) -> None:
    future = channel.unary_unary("/t.S/Echo").future(b"x", timeout=20)
    told: list[Any] = []
    was_told = threading.Event()

    def done(argument: Any) -> None:
        told.append(argument)
        was_told.set()

    future.add_done_callback(done)
    assert future.result(timeout=20) == b"x"
    assert was_told.wait(20)
    assert told == [future]
    assert future.exception() is None
    assert future.traceback() is None
    assert future.done()
    assert not future.running()
    assert not future.cancelled()
    assert future.code() is grpc.StatusCode.OK
    assert future.details() == ""
    later: list[Any] = []
    future.add_done_callback(later.append)
    assert later == [future]


def test_a_future_that_fails(channel: Any) -> None:
    future = channel.unary_unary("/t.S/Fail").future(b"x")
    assert future.exception(timeout=20) is future
    with pytest.raises(grpc.RpcError) as failed:
        future.result()
    assert failed.value is future
    assert future.traceback() is not None
    assert future.code() is grpc.StatusCode.FAILED_PRECONDITION


def test_a_future_that_is_cancelled(channel: Any) -> None:
    future = channel.unary_unary("/t.S/Wait").future(b"x", timeout=20)
    with pytest.raises(grpc.FutureTimeoutError):
        future.result(timeout=0.01)
    with pytest.raises(grpc.FutureTimeoutError):
        future.exception(timeout=0)
    assert future.running()
    assert future.is_active()
    assert 0 < future.time_remaining() <= 20
    future.cancel()
    assert future.cancelled()
    with pytest.raises(grpc.FutureCancelledError):
        future.result()
    with pytest.raises(grpc.FutureCancelledError):
        future.exception()
    assert future.code() is grpc.StatusCode.CANCELLED
    assert future.details() == "Locally cancelled by application!"


def test_a_stream_that_is_cancelled(channel: Any, waiting: Waiting) -> None:
    stream = channel.unary_stream("/t.S/WaitStream")(b"x", timeout=20)
    assert next(stream) == b"x"
    assert stream.is_active()
    assert 0 < stream.time_remaining() <= 20
    called = threading.Event()
    assert stream.add_callback(called.set)
    stream.cancel()
    assert called.wait(20)
    with pytest.raises(grpc.RpcError) as failed:
        next(stream)
    assert failed.value is stream
    assert stream.code() is grpc.StatusCode.CANCELLED
    assert stream.cancelled()
    assert waiting.seen_end.wait(20)


def test_a_stream_that_is_dropped(channel: Any, waiting: Waiting) -> None:
    """Nobody can read it any more, so grpcio cancels it."""
    stream = channel.unary_stream("/t.S/WaitStream")(b"x")
    assert next(stream) == b"x"
    del stream
    assert waiting.seen_end.wait(20)


def test_deadlines(channel: Any) -> None:
    assert channel.unary_stream("/t.S/Numbers")(b"0").time_remaining() is None
    with pytest.raises(grpc.RpcError) as failed:
        channel.unary_unary("/t.S/Wait")(b"x", 0.05)
    assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    with pytest.raises(grpc.RpcError) as failed:
        list(channel.unary_stream("/t.S/WaitStream")(b"x", timeout=0.05))
    assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_aio_calls(target: str) -> None:
    async def scenario() -> None:
        async with grpc.aio.insecure_channel(target) as channel:
            call = channel.unary_unary("/t.S/Echo")(b"x", timeout=20)
            told: list[Any] = []
            call.add_done_callback(told.append)
            assert not call.done()
            assert not call.cancelled()
            assert 0 < call.time_remaining() <= 20
            await call.wait_for_connection()
            assert await call == b"x"
            assert await call == b"x"
            assert call.done()
            assert not call.cancel()
            assert await call.code() is grpc.StatusCode.OK
            assert await call.details() == ""
            assert told == [call]

            stream = channel.unary_stream("/t.S/Numbers")(b"2")
            assert stream.time_remaining() is None
            await stream.wait_for_connection()
            assert [await stream.read() for _ in range(3)] == [b"0", b"1", grpc.aio.EOF]
            assert stream.done()
            assert await stream.read() is grpc.aio.EOF

            chat = channel.stream_stream("/t.S/Chat")(timeout=20)
            await chat.wait_for_connection()
            await chat.write(b"a")
            assert await chat.read() == b"aa"
            await chat.done_writing()
            assert await chat.read() is grpc.aio.EOF

            upload = channel.stream_unary("/t.S/Join")()
            await upload.write(b"a")
            await upload.write(b"b")
            await upload.done_writing()
            assert await upload == b"ab"

    asyncio.run(scenario())


def test_aio_cancel(target: str, waiting: Waiting) -> None:
    async def wait_on(call: Any) -> Any:
        return await call

    async def scenario() -> None:
        async with grpc.aio.insecure_channel(target) as channel:
            stream = channel.unary_stream("/t.S/WaitStream")(b"x")
            assert await stream.read() == b"x"
            assert stream.cancel()
            assert stream.cancelled()
            assert stream.done()
            assert not stream.cancel()
            with pytest.raises(asyncio.CancelledError):
                await stream.read()
            assert await stream.code() is grpc.StatusCode.CANCELLED
            assert await stream.details() == "Locally cancelled by application!"

            call = channel.unary_unary("/t.S/Wait")(b"x")
            task = asyncio.create_task(wait_on(call))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert call.cancelled()

    asyncio.run(scenario())
    assert waiting.seen_end.wait(20)


def test_aio_failure(target: str) -> None:
    async def scenario() -> None:
        async with grpc.aio.insecure_channel(target) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await channel.unary_unary("/t.S/Fail")(b"way")
            error = failed.value
            assert (error.code(), error.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "no way")
            assert list(error.trailing_metadata()) == [("x-why", "because")]
            stream = channel.unary_stream("/t.S/FailStream")(b"way")
            assert await stream.read() == b"way"
            with pytest.raises(grpc.aio.AioRpcError, match="no way"):
                await stream.read()
            assert await stream.code() is grpc.StatusCode.FAILED_PRECONDITION
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await channel.unary_unary("/t.S/Wait")(b"x", timeout=0.05)
            assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED

    asyncio.run(scenario())


# --- other ways to make channels and calls --------------------------------------------------------------------------


def test_codecs_of_the_user(channel: Any, target: str, recorded: Telemetry | None) -> None:
    echo = channel.unary_unary("/t.S/Echo", request_serializer=str.encode, response_deserializer=bytes.decode)
    assert echo("héllo") == "héllo"
    chat = channel.stream_stream(method="/t.S/Chat", request_serializer=str.encode, response_deserializer=len)
    assert list(chat(iter(["a", "bc"]))) == [2, 4]
    # A falsy message is a message.
    assert channel.unary_unary("/t.S/Echo", None, lambda _data: 0)(b"x") == 0
    assert list(channel.stream_stream("/t.S/Chat", None, lambda _data: [])(iter([b""]))) == [[]]

    async def scenario() -> None:
        async with grpc.aio.insecure_channel(target) as aio_channel:
            assert await aio_channel.unary_unary("/t.S/Echo", str.encode, bytes.decode)("héllo") == "héllo"

    asyncio.run(scenario())
    assert_recorded(recorded, 5)


@pytest.mark.skipif(
    "_registered_method" not in grpc.Channel.unary_unary.__code__.co_varnames, reason="this grpcio registers none"
)
def test_registered_methods(target: str, recorded: Telemetry | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As generated stubs ask for them, from grpcio 1.63 on. With us, each call asks for the method's handle again."""
    asked: list[str] = []
    for owner in (grpc._channel.Channel, grpc.aio._channel.Channel):

        def ask(channel: Any, method: str, *registered: bool, asking: Any = owner._get_registered_call_handle) -> Any:
            if all(registered):
                asked.append(method)
            return asking(channel, method, *registered)

        monkeypatch.setattr(owner, "_get_registered_call_handle", ask)

    with grpc.insecure_channel(target) as channel:
        echo = channel.unary_unary("/t.S/Echo", _registered_method=True)
        assert [echo(b"%d" % n) for n in range(3)] == [b"0", b"1", b"2"]
        assert channel.stream_unary("/t.S/Join", None, None, True)(iter([b"a", b"b"])) == b"ab"

    async def scenario() -> None:
        async with grpc.aio.insecure_channel(target) as aio_channel:
            assert await aio_channel.unary_unary("/t.S/Echo", _registered_method=True)(b"x") == b"x"

    asyncio.run(scenario())
    calls = ["/t.S/Echo"] * 3 + ["/t.S/Join"] + ["/t.S/Echo"]
    assert sorted(asked) == sorted(["/t.S/Echo", "/t.S/Join", "/t.S/Echo", *([] if recorded is None else calls)])
    assert_recorded(recorded, 5)


def test_names_bound_before(target: str, recorded: Telemetry | None) -> None:
    with bound_insecure_channel(target) as channel:
        assert channel.unary_unary("/t.S/Echo")(b"x") == b"x"

    async def scenario() -> None:
        async with bound_aio_insecure_channel(target) as aio_channel:
            assert await aio_channel.unary_unary("/t.S/Echo")(b"x") == b"x"

    asyncio.run(scenario())
    assert_recorded(recorded, 2)


def test_channels_and_servers_side_by_side(target: str, recorded: Telemetry | None) -> None:
    other = Service("t.S", Echo=("unary_unary", lambda request, _context: b"other " + request))
    with (
        serving(other) as port,
        grpc.insecure_channel(target) as one,
        grpc.insecure_channel(f"127.0.0.1:{port}") as two,
    ):
        invokes = (one.unary_unary("/t.S/Echo"), two.unary_unary("/t.S/Echo"))
        futures = [invoke.future(b"%d" % n) for n in range(10) for invoke in invokes]
        answers = [future.result(20) for future in futures]
    assert answers == [prefix + b"%d" % n for n in range(10) for prefix in (b"", b"other ")]
    if recorded is not None:
        ports = [(span.attributes or {})["server.port"] for span in recorded.stream_spans("client", 20)]
        assert sorted(ports) == sorted([port] * 10 + [int(target.rpartition(":")[2])] * 10)


def test_threads_share_a_stub(channel: Any, recorded: Telemetry | None) -> None:
    chat = channel.stream_stream("/t.S/Chat")
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda n: list(chat(iter([b"%d" % n] * 20))), range(10)))
    assert answers == [[b"%d%d" % (n, n)] * 20 for n in range(10)]
    assert_recorded(recorded, 10)


def test_single_threaded_streams(target: str, recorded: Telemetry | None) -> None:
    option = (grpc.experimental.ChannelOptions.SingleThreadedUnaryStream, 1)
    with grpc.insecure_channel(target, options=[option]) as channel:
        stream = channel.unary_stream("/t.S/Numbers")(b"3")
        assert type(stream) is grpc._channel._SingleThreadedRendezvous
        with pytest.raises(grpc.experimental.UsageError):
            stream.code()
        assert not stream.done()
        assert list(stream) == [b"0", b"1", b"2"]
        assert stream.code() is grpc.StatusCode.OK

        failing = channel.unary_stream("/t.S/FailStream")(b"way")
        assert next(failing) == b"way"
        with pytest.raises(grpc.RpcError) as failed:
            next(failing)
        assert failed.value is failing
        assert failing.details() == "no way"

        held = channel.unary_stream("/t.S/WaitStream")(b"x")
        assert next(held) == b"x"
        held.cancel()
        with pytest.raises(grpc.RpcError):
            next(held)
        assert held.code() is grpc.StatusCode.CANCELLED
        # No thread waits for what became of it, so nothing tells of its end until it is dropped; it raised itself, and
        # its traceback holds it.
        del held, failed
        gc.collect()
        assert_recorded(recorded, 3)


def test_experimental_aio(target: str, recorded: Telemetry | None) -> None:
    async def scenario() -> None:
        async with grpc.experimental.aio.insecure_channel(target) as channel:
            assert [answer async for answer in channel.unary_stream("/t.S/Numbers")(b"2")] == [b"0", b"1"]

    asyncio.run(scenario())
    assert_recorded(recorded, 1)


@pytest.mark.filterwarnings("ignore::grpc.experimental.ExperimentalApiWarning")
def test_experimental_simple_stubs(target: str, recorded: Telemetry | None) -> None:
    more: dict[str, Any] = {"insecure": True, "metadata": (("x-a", "1"),)}
    for kind, method in DESCRIBE.items():
        request = iter([b""]) if kind.startswith("stream") else b""
        answer = getattr(grpc.experimental, kind)(request, target, method, **more)
        assert (list(answer) if kind.endswith("stream") else [answer]) == [b"x-a=1"]
    assert_recorded(recorded, 4)


def test_a_stub_outlives_the_name_of_its_channel(target: str) -> None:
    echo = grpc.insecure_channel(target).unary_unary("/t.S/Echo")
    assert echo(b"x") == b"x"


# --- mistakes -------------------------------------------------------------------------------------------------------

KINDS: dict[str, tuple[str, Any]] = {
    "unary_unary": ("/t.S/Echo", b"1"),
    "unary_stream": ("/t.S/Numbers", b"1"),
    "stream_unary": ("/t.S/Join", (b"1",)),
    "stream_stream": ("/t.S/Chat", (b"1",)),
}


def calling(target: str, kind: str, *codecs: Any, **kwargs: Any) -> Callable[[], Any]:
    """A scenario: one sync call and all that it answers."""
    method, request = KINDS[kind]

    def scenario() -> Any:
        with grpc.insecure_channel(target) as channel:
            invoke = getattr(channel, kind)(method, *codecs)
            made = invoke(iter(request) if kind.startswith("stream") else request, **kwargs)
            return list(made) if kind.endswith("stream") else made

    return scenario


def aio_calling(target: str, kind: str, *codecs: Any, **kwargs: Any) -> Callable[[], Any]:
    """The same on asyncio."""
    method, request = KINDS[kind]

    async def scenario() -> Any:
        async with grpc.aio.insecure_channel(target) as channel:
            invoke = getattr(channel, kind)(method, *codecs)
            call = invoke(iter(request) if kind.startswith("stream") else request, **kwargs)
            return [message async for message in call] if kind.endswith("stream") else await call

    return scenario


@pytest.mark.parametrize(
    "metadata",
    [[("x-a", "1"), ("X-Upper", "1")], [("x-a", b"bytes")], [("x-bin", "text")], 5, [7], [("only-a-key",)]],
    ids=repr,
)
def test_metadata_that_does_not_fit(bare_target: str, telemetry: Telemetry, metadata: Any) -> None:
    # Messages name the metadata, ours included.
    same_with_us(telemetry, *(calling(bare_target, kind, metadata=metadata) for kind in KINDS), messages=False)
    if OLD_GRPCIO:
        return  # its asyncio calls hang by themselves, or lose the end of another one
    same_with_us(telemetry, *(aio_calling(bare_target, kind, metadata=metadata) for kind in KINDS), messages=False)


@pytest.mark.parametrize(
    "arguments", [{"nonsense": 1}, {"timeout": "soon"}, {"wait_for_ready": "maybe"}, {"compression": "zip"}], ids=repr
)
def test_arguments_that_do_not_fit(bare_target: str, telemetry: Telemetry, arguments: Any) -> None:
    same_with_us(telemetry, *(calling(bare_target, kind, **arguments) for kind in KINDS))
    same_with_us(telemetry, *(aio_calling(bare_target, kind, **arguments) for kind in KINDS))


def test_too_many_and_too_few_arguments(bare_target: str, telemetry: Telemetry) -> None:
    def on_channel(act: Callable[[Any], Any]) -> Callable[[], Any]:
        def scenario() -> Any:
            with grpc.insecure_channel(bare_target) as channel:
                return act(channel)

        return scenario

    def on_aio_channel(act: Callable[[Any], Any]) -> Callable[[], Any]:
        async def scenario() -> Any:
            async with grpc.aio.insecure_channel(bare_target) as channel:
                return await act(channel)

        return scenario

    many = (b"x", *[None] * 6)
    outcomes = same_with_us(
        telemetry,
        on_channel(lambda channel: channel.unary_unary()),
        on_channel(lambda channel: channel.unary_unary("/t.S/Echo", nonsense=1)),
        on_channel(lambda channel: channel.unary_unary(7)),
        on_channel(lambda channel: channel.unary_unary("/t.S/Echo")()),
        on_channel(lambda channel: channel.unary_unary("/t.S/Echo")(*many)),
        on_channel(lambda channel: channel.unary_unary("/t.S/Echo")(b"x", None, None, metadata=())),
        on_channel(lambda channel: channel.unary_unary("/t.S/Echo").with_call()),
        on_channel(lambda channel: channel.unary_unary("/t.S/Echo").future(*many)),
        on_channel(lambda channel: channel.stream_stream("/t.S/Chat")()),
        on_channel(lambda channel: channel.stream_unary("/t.S/Join").future()),
        on_channel(lambda channel: channel.unary_unary("/t.S/Echo").nonsense),
        on_aio_channel(lambda channel: channel.unary_unary()),
        on_aio_channel(lambda channel: channel.unary_unary("/t.S/Echo")()),
    )
    assert all(isinstance(outcome, tuple) and issubclass(outcome[0], Exception) for outcome in outcomes)
    # Where metadata can't be given by position, Python counts ours among the keyword arguments it names.
    with pytest.raises(AssertionError, match="1 keyword-only argument"):
        same_with_us(telemetry, on_aio_channel(lambda channel: channel.unary_unary("/t.S/Echo")(b"x", 20)))


@pytest.mark.parametrize("options", [{}, {"_registered_method": True}], ids=["by name", "registered"])
def test_closed_channels(bare_target: str, telemetry: Telemetry, options: dict[str, bool]) -> None:
    if options and "_registered_method" not in grpc.Channel.unary_unary.__code__.co_varnames:
        pytest.skip("this grpcio registers no methods")

    def closed(kind: str, way: str) -> Callable[[], Any]:
        def scenario() -> Any:
            channel = grpc.insecure_channel(bare_target)
            invoke = getattr(channel, kind)(KINDS[kind][0], **options)
            channel.close()
            return getattr(invoke, way)(KINDS[kind][1])

        return scenario

    def aio_closed(kind: str) -> Callable[[], Any]:
        async def scenario() -> Any:
            channel = grpc.aio.insecure_channel(bare_target)
            invoke = getattr(channel, kind)(KINDS[kind][0], **options)
            await channel.close()
            call = invoke(KINDS[kind][1])
            return await (call.read() if kind.endswith("stream") else call)

        return scenario

    outcomes = same_with_us(
        telemetry,
        *(closed(kind, "__call__") for kind in KINDS),
        *(closed(kind, way) for kind in ("unary_unary", "stream_unary") for way in ("with_call", "future")),
    )
    assert {outcome[0] for outcome in outcomes} == {ValueError}
    same_with_us(telemetry, *(aio_closed(kind) for kind in KINDS))


def test_a_channel_closed_under_its_call(bare_target: str, telemetry: Telemetry) -> None:
    def scenario() -> Any:
        channel = grpc.insecure_channel(bare_target)
        stream = channel.unary_stream("/t.S/WaitStream")(b"x")
        assert next(stream) == b"x"
        channel.close()
        return next(stream)

    async def aio_scenario() -> Any:
        channel = grpc.aio.insecure_channel(bare_target)
        stream = channel.unary_stream("/t.S/WaitStream")(b"x")
        assert await stream.read() == b"x"
        await channel.close()
        return await asyncio.wait_for(stream.read(), 1)  # older grpcio forgets the call

    outcomes = same_with_us(telemetry, scenario, aio_scenario)
    assert outcomes[0][1] is grpc.StatusCode.CANCELLED


def test_aio_styles_that_do_not_mix(bare_target: str, telemetry: Telemetry) -> None:
    async def read_then_iterate() -> Any:
        async with grpc.aio.insecure_channel(bare_target) as channel:
            stream = channel.unary_stream("/t.S/Numbers")(b"3")
            await stream.read()
            return [message async for message in stream]

    async def iterate_then_read() -> Any:
        async with grpc.aio.insecure_channel(bare_target) as channel:
            stream = channel.unary_stream("/t.S/Numbers")(b"3")
            await anext(aiter(stream))
            return await stream.read()

    async def write_beside_an_iterator() -> Any:
        async with grpc.aio.insecure_channel(bare_target) as channel:
            return await channel.stream_stream("/t.S/Chat")(iter([b"a"])).write(b"b")

    async def write_when_done() -> Any:
        async with grpc.aio.insecure_channel(bare_target) as channel:
            chat = channel.stream_stream("/t.S/Chat")()
            await chat.done_writing()
            return await chat.write(b"b")

    outcomes = same_with_us(telemetry, read_then_iterate, iterate_then_read, write_beside_an_iterator)
    outcomes += same_with_us(telemetry, write_when_done, messages=False)  # the server may have ended the call by then
    assert all(issubclass(outcome[0], Exception) for outcome in outcomes)


class Broken(Exception):
    """The user's own mistake."""


def broken_requests() -> Iterator[bytes]:
    yield b"a"
    raise Broken("in the iterator")


async def broken_aio_requests() -> AsyncIterator[bytes]:
    yield b"a"
    raise Broken("in the iterator")


@pytest.mark.parametrize("requests", [broken_requests, lambda: [b"a"], lambda: 5])
def test_request_iterators_that_fail(bare_target: str, telemetry: Telemetry, requests: Callable[[], Any]) -> None:
    def up() -> Any:
        with grpc.insecure_channel(bare_target) as channel:
            return channel.stream_unary("/t.S/Join")(requests())

    def chat() -> Any:
        with grpc.insecure_channel(bare_target) as channel:
            return list(channel.stream_stream("/t.S/Chat")(requests()))[5:]  # what came before it broke varies

    outcomes = same_with_us(telemetry, up, chat)
    assert all(isinstance(outcome, tuple) for outcome in outcomes)


@pytest.mark.parametrize("requests", [broken_requests, broken_aio_requests, lambda: 5, lambda: iter([5])])
def test_aio_request_iterators_that_fail(bare_target: str, telemetry: Telemetry, requests: Callable[[], Any]) -> None:
    async def up() -> Any:
        async with grpc.aio.insecure_channel(bare_target) as channel:
            return await channel.stream_unary("/t.S/Join")(requests())

    assert isinstance(same_with_us(telemetry, up)[0], tuple)


def breaking(_data: Any) -> Any:
    raise Broken("in the codec")


@pytest.mark.parametrize("codecs", [(breaking,), (None, breaking)], ids=["serializer", "deserializer"])
def test_codecs_that_fail(bare_target: str, telemetry: Telemetry, codecs: Any) -> None:
    outcomes = same_with_us(telemetry, *(calling(bare_target, kind, *codecs) for kind in KINDS))
    assert all(isinstance(outcome, tuple) for outcome in outcomes)
    same_with_us(telemetry, *(aio_calling(bare_target, kind, *codecs) for kind in KINDS))


def test_serializers_that_answer_no_bytes(bare_target: str, telemetry: Telemetry) -> None:
    """Of a request stream, this leaves grpcio's own call hanging."""
    for kind in ("unary_unary", "unary_stream"):
        outcomes = same_with_us(telemetry, calling(bare_target, kind, len), aio_calling(bare_target, kind, len))
        assert [outcome[0] for outcome in outcomes] == [TypeError, TypeError]


def test_credentials_that_are_refused(
    tls: Tls, telemetry: Telemetry, bare_target: str, request: pytest.FixtureRequest
) -> None:
    given = grpc.access_token_call_credentials("secret")
    same_with_us(
        telemetry,
        calling(bare_target, "unary_unary", credentials=given),
        aio_calling(bare_target, "unary_unary", credentials=given),
    )


def test_a_certificate_that_is_not_trusted(secure_target: str) -> None:
    with grpc.secure_channel(secure_target, grpc.ssl_channel_credentials()) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary("/t.S/Echo")(b"")
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


def test_interceptors_of_the_wrong_type(bare_target: str, telemetry: Telemetry) -> None:
    def scenario() -> Any:
        with grpc.insecure_channel(bare_target) as channel:
            return grpc.intercept_channel(channel, 5)

    async def aio_scenario() -> Any:
        return grpc.aio.insecure_channel(bare_target, interceptors=[5])

    assert [outcome[0] for outcome in same_with_us(telemetry, scenario, aio_scenario)] == [TypeError, ValueError]

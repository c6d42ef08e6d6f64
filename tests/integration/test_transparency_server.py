"""A server's handlers and interceptors behave exactly as without us.

Most tests make the same calls bare and instrumented and compare what the client gets; those of spans and context run
instrumented only. Messages are raw bytes.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NamedTuple

import grpc
import grpc._server
import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace

from otelstream import GrpcStreamInstrumentor, open_streams
from otelstream.testing import Service, Telemetry, wait_until
from tests.transparency import byte_counting_proxy, same_with_us

bound_server = grpc.server
bound_aio_server = grpc.aio.server
"""Bound before anything is instrumented, as applications do with ``from grpc import server``."""

OK = grpc.StatusCode.OK


@contextmanager
def serving(*args: Any, make: Any = None, **kwargs: Any) -> Iterator[Any]:
    """A channel to a sync server made with these arguments."""
    server = (make or grpc.server)(*args, **kwargs)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    server.stop(None).wait()


@asynccontextmanager
async def aio_serving(*args: Any, make: Any = None, **kwargs: Any) -> AsyncIterator[Any]:
    """A channel to an asyncio server made with these arguments."""
    server = (make or grpc.aio.server)(*args, **kwargs)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(None)


class Answer(NamedTuple):
    """What a client gets of a call."""

    messages: list[bytes]
    code: grpc.StatusCode
    details: str
    trailing: list[Any]


REQUESTS = (b"1", b"2", b"3")


def ask(channel: Any, kind: str, method: str = "M", requests: Any = REQUESTS) -> Answer:
    """Make one sync call; what comes before an error is kept."""
    call = getattr(channel, kind)(f"/t.S/{method}")
    messages: list[bytes] = []
    try:
        request = iter(requests) if kind.startswith("stream") else requests[0]
        if kind.endswith("stream"):
            made = call(request)
            messages.extend(made)
        else:
            message, made = call.with_call(request)
            messages.append(message)
    except grpc.RpcError as error:
        made = error
    return Answer(messages, made.code(), made.details(), [tuple(entry) for entry in made.trailing_metadata()])


async def aio_ask(channel: Any, kind: str, method: str = "M", requests: Any = REQUESTS) -> Answer:
    """The same on asyncio."""
    request = iter(requests) if kind.startswith("stream") else requests[0]
    call = getattr(channel, kind)(f"/t.S/{method}")(request)
    messages: list[bytes] = []
    try:
        if kind.endswith("stream"):
            async for message in call:
                messages.append(message)  # noqa: PERF401  # what comes before an error is kept
        else:
            messages.append(await call)
    except grpc.aio.AioRpcError:
        pass
    trailing = [tuple(entry) for entry in await call.trailing_metadata()]
    return Answer(messages, await call.code(), await call.details(), trailing)


def answering(kind: str, handler: Any, **options: Any) -> Callable[[], Answer]:
    """A scenario for ``same_with_us``: a sync server with ``handler``, and one call to it."""

    def scenario() -> Answer:
        handlers = [Service("t.S", M=(kind, handler))]
        with ThreadPoolExecutor(4) as pool, serving(pool, handlers, **options) as channel:
            return ask(channel, kind)

    return scenario


def aio_answering(kind: str, handler: Any, **options: Any) -> Callable[[], Any]:
    """The same on asyncio."""

    async def scenario() -> Answer:
        handlers = [Service("t.S", M=(kind, handler))]
        async with aio_serving(handlers=handlers, **options) as channel:
            return await aio_ask(channel, kind)

    return scenario


# --- ways to end ----------------------------------------------------------------------------------------------------


class Gone(grpc.Status):  # type: ignore[misc]  # grpc has no types
    """For ``abort_with_status``."""

    code = grpc.StatusCode.NOT_FOUND
    details = "gone"
    trailing_metadata = (("x-t", "1"),)


def end(context: Any, how: str) -> Any:
    """End a call as ``how`` says; on asyncio, what is to be awaited."""
    if how in ("set", "set_and_raise"):
        context.set_code(grpc.StatusCode.ALREADY_EXISTS)
        context.set_details("set")
        context.set_trailing_metadata((("x-t", "2"), ("x-t-bin", b"\x00")))
    if how in ("raise", "set_and_raise"):
        raise ValueError("raised")
    if how == "abort":
        return context.abort(grpc.StatusCode.ABORTED, "aborted")
    if how == "abort_with_status":
        return context.abort_with_status(Gone())
    if how == "trailing":
        context.set_trailing_metadata((("x-t", "3"),))
    return None


WAYS = ("return", "set", "raise", "set_and_raise", "abort", "abort_with_status", "trailing")


@pytest.mark.parametrize("how", WAYS)
def test_ways_to_end(telemetry: Telemetry, how: str) -> None:
    def unary(request: bytes, context: Any) -> bytes:
        end(context, how)
        return request

    def stream(request: bytes, context: Any) -> Iterator[bytes]:
        yield b"first"
        end(context, how)
        yield b"second"

    def not_a_generator(_request: bytes, context: Any) -> Iterator[bytes]:
        end(context, how)
        return iter([b"only"])

    outcomes = same_with_us(
        telemetry,
        answering("unary_unary", unary),
        answering("stream_unary", lambda requests, context: unary(b"".join(requests), context)),
        answering("unary_stream", stream),
        answering("stream_stream", stream),
        answering("unary_stream", not_a_generator),
    )
    assert all(isinstance(outcome, Answer) for outcome in outcomes)
    assert (outcomes[0].code is OK) == (how in ("return", "trailing"))


async def read_all(request: Any) -> None:
    """Else an asyncio client may still be writing when it is told of the end, and grpcio reports INTERNAL."""
    if not isinstance(request, bytes):
        assert [message async for message in request] == list(REQUESTS)


def drain(request: Any) -> None:
    """The same for plain handlers."""
    if not isinstance(request, bytes):
        assert list(request) == list(REQUESTS)


@pytest.mark.parametrize("how", WAYS)
def test_ways_to_end_on_asyncio(telemetry: Telemetry, how: str) -> None:
    async def unary(request: Any, context: Any) -> bytes:
        await read_all(request)
        awaited = end(context, how)
        if awaited is not None:
            await awaited
        return b"answer"

    async def generator(request: Any, context: Any) -> AsyncIterator[bytes]:
        await read_all(request)
        yield b"first"
        awaited = end(context, how)
        if awaited is not None:
            await awaited
        yield b"second"

    async def writing(request: Any, context: Any) -> None:
        await read_all(request)
        await context.write(b"first")
        awaited = end(context, how)
        if awaited is not None:
            await awaited
        await context.write(b"second")

    outcomes = same_with_us(
        telemetry,
        aio_answering("unary_unary", unary),
        aio_answering("stream_unary", unary),
        aio_answering("unary_stream", generator),
        aio_answering("unary_stream", writing),
        aio_answering("stream_stream", generator),
        aio_answering("stream_stream", writing),
    )
    assert all(isinstance(outcome, Answer) for outcome in outcomes)
    assert (outcomes[0].code is OK) == (how in ("return", "trailing"))


@pytest.mark.parametrize("how", [way for way in WAYS if way != "abort_with_status"])  # plain contexts lack it
def test_ways_to_end_of_plain_handlers_on_asyncio(telemetry: Telemetry, how: str) -> None:
    def unary(request: Any, context: Any) -> bytes:
        drain(request)
        end(context, how)
        return b"answer"

    def generator(request: Any, context: Any) -> Iterator[bytes]:
        drain(request)
        yield b"first"
        end(context, how)
        yield b"second"

    outcomes = same_with_us(
        telemetry,
        aio_answering("unary_unary", unary),
        aio_answering("stream_unary", unary),
    )
    if how != "abort":  # hangs in grpcio itself
        outcomes += same_with_us(
            telemetry, aio_answering("unary_stream", generator), aio_answering("stream_stream", generator)
        )
    assert all(isinstance(outcome, Answer) for outcome in outcomes)


class OnlyNext:
    """The least that grpc takes for an iterator."""

    def __init__(self, messages: list[Any]) -> None:
        self._messages = iter(messages)

    def __next__(self) -> Any:
        return next(self._messages)


class LikeAnArray:
    """Compares as arrays and columns do: ``==`` answers no bool."""

    def __eq__(self, _other: object) -> Any:
        return self

    def __hash__(self) -> int:
        return 0

    def __bool__(self) -> bool:
        raise ValueError("ambiguous")


class LikeAnything:
    """Equals everything, as ``unittest.mock.ANY`` does."""

    def __eq__(self, _other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


@pytest.mark.parametrize(
    "responses",
    [
        pytest.param(lambda: OnlyNext([b"a", b"b"]), id="only __next__"),
        pytest.param(lambda: iter([b"a", b"b"]), id="iterator"),
        pytest.param(lambda: map(bytes.upper, [b"a", b"b"]), id="map"),
        pytest.param(lambda: (message for message in (b"a", b"b")), id="generator"),
        pytest.param(lambda: iter([]), id="empty"),
        pytest.param(lambda: iter([b"a", None, b"b"]), id="None ends it"),
        pytest.param(lambda: [b"a"], id="list"),
        pytest.param(lambda: None, id="None"),
        pytest.param(lambda: 5, id="number"),
        pytest.param(lambda: b"bytes", id="bytes"),
    ],
)
def test_what_stream_handlers_return(telemetry: Telemetry, responses: Callable[[], Any]) -> None:
    outcomes = same_with_us(telemetry, answering("unary_stream", lambda _request, _context: responses()))
    assert isinstance(outcomes[0], Answer)
    (server,) = telemetry.stream_spans("server", 1)
    assert (server.attributes or {})["rpc.response.status_code"] == outcomes[0].code.name


@pytest.mark.parametrize(
    "responses",
    [
        pytest.param(lambda: iter([b"a", b"b"]), id="iterator"),
        pytest.param(lambda: (message for message in (b"a", b"b")), id="generator"),
        pytest.param(lambda: [b"a", b"b"], id="list"),
        pytest.param(lambda: None, id="None"),
        pytest.param(lambda: 5, id="number"),
    ],
)
def test_what_plain_stream_handlers_return_on_asyncio(telemetry: Telemetry, responses: Callable[[], Any]) -> None:
    def on_the_loop(_request: bytes, _context: Any) -> Any:
        asyncio.get_running_loop()  # grpc calls the function itself on the event loop
        return responses()

    assert isinstance(same_with_us(telemetry, aio_answering("unary_stream", on_the_loop))[0], Answer)


@pytest.mark.parametrize("message", [LikeAnArray, LikeAnything])
def test_messages_are_never_compared(telemetry: Telemetry, message: type[Any]) -> None:
    service = Service(
        "t.S",
        serializer=lambda _message: b"serialized",
        M=("unary_stream", lambda _request, _context: iter([message(), message()])),
    )

    def scenario() -> Answer:
        with ThreadPoolExecutor(4) as pool, serving(pool, [service]) as channel:
            return ask(channel, "unary_stream")

    async def aio_scenario() -> Answer:
        async with aio_serving(handlers=[service]) as channel:
            return await aio_ask(channel, "unary_stream")

    for outcome in same_with_us(telemetry, scenario, aio_scenario):
        assert outcome == Answer([b"serialized"] * 2, OK, "", [])


def test_codecs_that_fail(telemetry: Telemetry) -> None:
    def breaking(_data: Any) -> Any:
        raise ValueError("in the codec")

    def scenario(kind: str, **codecs: Any) -> Callable[[], Answer]:
        stream = kind.endswith("stream")
        service = Service("t.S", M=(kind, lambda r, _context: iter([b"a"]) if stream else b"a"), **codecs)

        def call() -> Answer:
            with ThreadPoolExecutor(4) as pool, serving(pool, [service]) as channel:
                return ask(channel, kind)

        return call

    kinds = ("unary_unary", "unary_stream", "stream_stream")
    for outcome in same_with_us(telemetry, *(scenario(kind, serializer=breaking) for kind in kinds)):
        assert outcome.code is grpc.StatusCode.INTERNAL
    for outcome in same_with_us(telemetry, *(scenario(kind, deserializer=breaking) for kind in kinds[:2])):
        assert outcome.code is grpc.StatusCode.INTERNAL


# --- the context ----------------------------------------------------------------------------------------------------


def test_what_a_context_tells(telemetry: Telemetry) -> None:
    def handler(request: bytes, context: Any) -> bytes:
        context.set_code(OK)
        context.set_details("fine")
        context.set_trailing_metadata((("x-t", "1"),))
        told = (
            type(context) is grpc._server._Context,
            isinstance(context, grpc.ServicerContext),
            context.is_active(),
            context.time_remaining() > 1e6,  # no deadline
            context.peer().startswith("ipv4:127.0.0.1:"),
            context.peer_identities(),
            context.peer_identity_key(),
            sorted(context.auth_context()),
            context.code(),
            context.details(),
            context.trailing_metadata(),
            [entry for entry in context.invocation_metadata() if entry[0].startswith("x-")],
            context.cancel.__name__,
        )
        return repr(told).encode()

    def stream(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        yield handler(next(requests), context)
        yield b"".join(requests)

    outcomes = same_with_us(telemetry, answering("unary_unary", handler), answering("stream_stream", stream))
    assert outcomes[0].messages[0].startswith(b"(True, True, True, True, True")
    assert outcomes[1].messages[1] == b"23"


def test_what_an_asyncio_context_tells(telemetry: Telemetry) -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        context.set_details("fine")
        context.set_trailing_metadata((("x-t", "1"),))
        told = (
            type(context).__name__,
            isinstance(context, grpc.aio.ServicerContext),
            context.time_remaining(),
            context.peer().startswith("ipv4:127.0.0.1:"),
            context.peer_identities(),
            context.auth_context(),
            context.code(),
            context.details(),
            context.trailing_metadata(),
            context.done(),
            context.cancelled(),
        )
        return repr(told).encode()

    def plain(request: bytes, context: Any) -> bytes:
        told = (context.time_remaining(), context.peer()[:5], context.auth_context(), context.invocation_metadata()[:0])
        return repr(told).encode()

    outcomes = same_with_us(telemetry, aio_answering("unary_unary", handler), aio_answering("unary_unary", plain))
    assert b"_ServicerContext" in outcomes[0].messages[0]


def test_callbacks_of_a_context(telemetry: Telemetry) -> None:
    def scenario() -> tuple[list[str], Answer]:
        told: list[str] = []
        ended = threading.Event()

        def handler(request: bytes, context: Any) -> bytes:
            assert context.add_callback(lambda: told.append("first"))
            assert context.add_callback(lambda: (told.append("second"), ended.set()))
            return request

        answer = answering("unary_unary", handler)()
        assert ended.wait(20)
        return told, answer

    async def aio_scenario() -> tuple[list[str], Answer]:
        told: list[str] = []

        async def handler(request: bytes, context: Any) -> bytes:
            context.add_done_callback(lambda given: told.append(type(given).__name__))
            return request

        async with aio_serving(handlers=[Service("t.S", M=("unary_unary", handler))]) as channel:
            answer = await aio_ask(channel, "unary_unary")
        return told, answer

    async def plain_scenario() -> tuple[list[str], Answer]:
        told: list[str] = []

        def handler(request: bytes, context: Any) -> bytes:
            context.add_callback(lambda: told.append("ended"))
            return request

        async with aio_serving(handlers=[Service("t.S", M=("unary_unary", handler))]) as channel:
            return told, await aio_ask(channel, "unary_unary")

    outcomes = same_with_us(telemetry, scenario, aio_scenario, plain_scenario)
    assert [told for told, _ in outcomes] == [["first", "second"], ["_ServicerContext"], ["ended"]]


def test_a_context_that_cancels(telemetry: Telemetry) -> None:
    def scenario() -> tuple[bool, Answer]:
        seen_inactive = threading.Event()

        def handler(_request: bytes, context: Any) -> Iterator[bytes]:
            ended = threading.Event()
            context.add_callback(ended.set)
            yield b"first"
            context.cancel()
            if ended.wait(20) and not context.is_active():
                seen_inactive.set()
            yield b"second"

        answer = answering("unary_stream", handler)()
        return seen_inactive.wait(20), answer

    ((seen, answer),) = same_with_us(telemetry, scenario)
    assert seen
    assert (answer.messages, answer.code) == ([b"first"], grpc.StatusCode.CANCELLED)


def test_compression_of_responses(telemetry: Telemetry) -> None:
    big = bytes(200_000)

    def handler(request: bytes, context: Any) -> Iterator[bytes]:
        context.set_compression(grpc.Compression.Gzip)
        yield big
        context.disable_next_message_compression()
        yield big

    def scenario() -> tuple[int, bool]:
        with ThreadPoolExecutor(4) as pool:
            server = grpc.server(pool, [Service("t.S", M=("unary_stream", handler))])
            port = server.add_insecure_port("127.0.0.1:0")
            server.start()
            with byte_counting_proxy(f"127.0.0.1:{port}") as (address, passed):
                with grpc.insecure_channel(address) as channel:
                    count = sum(len(message) for message in channel.unary_stream("/t.S/M")(b""))
                outcome = count, len(big) < passed() < 1.5 * len(big)
            server.stop(None).wait()
            return outcome

    assert same_with_us(telemetry, scenario) == [(2 * len(big), True)]


def test_a_handler_is_told_when_its_client_leaves(telemetry: Telemetry) -> None:
    """``finally`` runs, and on asyncio CancelledError is raised where the handler waits."""

    def scenario() -> str:
        ended = threading.Event()

        def handler(_request: bytes, context: Any) -> Iterator[bytes]:
            context.add_callback(ended.set)
            try:
                while True:
                    yield b"more"
            finally:
                finished.append("sync")

        finished: list[str] = []
        with ThreadPoolExecutor(4) as pool, serving(pool, [Service("t.S", M=("unary_stream", handler))]) as channel:
            call = channel.unary_stream("/t.S/M")(b"")
            next(call)
            call.cancel()
            assert ended.wait(20)
            wait_until(lambda: finished, "the generator to be closed")
        return finished[0]

    async def aio_scenario() -> str:
        finished: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def handler(_request: bytes, _context: Any) -> AsyncIterator[bytes]:
            yield b"first"
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError as error:
                finished.set_result(type(error).__name__)
                raise

        async with aio_serving(handlers=[Service("t.S", M=("unary_stream", handler))]) as channel:
            call = channel.unary_stream("/t.S/M")(b"")
            await call.read()
            call.cancel()
            return await asyncio.wait_for(finished, 20)

    assert same_with_us(telemetry, scenario, aio_scenario) == ["sync", "CancelledError"]


# --- interceptors of the user's own ---------------------------------------------------------------------------------


class Marking(grpc.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Notes which handler it gets, and marks what that answers."""

    def __init__(self, mark: bytes) -> None:
        self.mark = mark
        self.got: list[Any] = []

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        handler = continuation(handler_call_details)
        self.got.append(handler)
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: handler.unary_unary(request, context) + self.mark
        )


class Rejecting(grpc.ServerInterceptor):  # type: ignore[misc]
    """Answers for the handler, or hides it."""

    def __init__(self, how: str) -> None:
        self.how = how

    def intercept_service(self, _continuation: Any, _handler_call_details: Any) -> Any:
        if self.how == "raise":
            raise ValueError("in the interceptor")
        if self.how == "hide":
            return None
        return grpc.unary_unary_rpc_method_handler(
            lambda _request, context: context.abort(grpc.StatusCode.UNAUTHENTICATED, "no token")
        )


@pytest.mark.parametrize("position", ["keyword", "positional"])
def test_interceptors(telemetry: Telemetry, position: str) -> None:
    def scenario() -> Any:
        outer, inner = Marking(b"-outer"), Marking(b"-inner")
        handlers = [Service("t.S", M=("unary_unary", lambda request, _context: request))]
        with ThreadPoolExecutor(4) as pool:
            positional = (pool, handlers, (outer, inner))
            made = (
                serving(*positional)
                if position == "positional"
                else serving(pool, handlers=handlers, interceptors=[outer, inner])
            )
            with made as channel:
                answer = ask(channel, "unary_unary")
        # What they get is the user's own handler, or one another's.
        return answer, inner.got[0] is handlers[0]._handlers["/t.S/M"], type(outer.got[0]).__name__

    ((answer, is_users_own, _),) = same_with_us(telemetry, scenario)
    assert answer.messages == [b"1-inner-outer"]
    assert is_users_own


@pytest.mark.parametrize("how", ["raise", "hide", "abort"])
def test_interceptors_that_reject(telemetry: Telemetry, how: str) -> None:
    (answer,) = same_with_us(
        telemetry, answering("unary_unary", lambda request, _context: request, interceptors=[Rejecting(how)])
    )
    assert answer.code is not OK
    assert len(telemetry.stream_spans("client", 1)) == 1


class AioMarking(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    def __init__(self, mark: bytes) -> None:
        self.mark = mark

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        handler = await continuation(handler_call_details)

        async def marked(request: bytes, context: Any) -> bytes:
            answer: bytes = await handler.unary_unary(request, context)
            return answer + self.mark

        return grpc.unary_unary_rpc_method_handler(marked)


@pytest.mark.parametrize("position", ["keyword", "positional"])
def test_aio_interceptors(telemetry: Telemetry, position: str) -> None:
    async def echo(request: bytes, _context: Any) -> bytes:
        return request

    async def scenario() -> Any:
        marking = (AioMarking(b"-outer"), AioMarking(b"-inner"))
        handlers = [Service("t.S", M=("unary_unary", echo))]
        made = (
            aio_serving(None, handlers, marking)
            if position == "positional"
            else aio_serving(handlers=handlers, interceptors=list(marking))
        )
        async with made as channel:
            return await aio_ask(channel, "unary_unary")

    (answer,) = same_with_us(telemetry, scenario)
    assert answer.messages == [b"1-inner-outer"]


# --- ways to make servers and handlers ------------------------------------------------------------------------------


class Custom(grpc.RpcMethodHandler):  # type: ignore[misc]
    """A handler that is not grpc's own."""

    request_streaming, response_streaming = False, True
    request_deserializer, response_serializer = staticmethod(bytes.decode), staticmethod(str.encode)
    unary_unary = stream_unary = stream_stream = None

    def unary_stream(self, request: str, _context: Any) -> Iterator[str]:
        yield from (request, request)


class Generic(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Handles any method of any service, and tells what it was asked for."""

    def service(self, handler_call_details: Any) -> Any:
        method = handler_call_details.method
        return grpc.unary_unary_rpc_method_handler(lambda _request, _context: method.encode())


def test_handlers_of_other_kinds(telemetry: Telemetry) -> None:
    def custom() -> Answer:
        class Serving(grpc.GenericRpcHandler):  # type: ignore[misc]
            def service(self, _details: Any) -> Any:
                return Custom()

        with ThreadPoolExecutor(4) as pool, serving(pool, (Serving(),)) as channel:
            return ask(channel, "unary_stream")

    def generic() -> Answer:
        with ThreadPoolExecutor(4) as pool, serving(pool, [Generic()]) as channel:
            return ask(channel, "unary_unary", "Whatever")

    def added_later() -> Answer:
        with ThreadPoolExecutor(4) as pool:
            server = grpc.server(pool)
            server.add_generic_rpc_handlers([Generic()])
            port = server.add_insecure_port("127.0.0.1:0")
            server.start()
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                answer = ask(channel, "unary_unary", "Added")
            server.stop(None).wait()
            return answer

    def unknown() -> Answer:
        with ThreadPoolExecutor(4) as pool, serving(pool, []) as channel:
            return ask(channel, "unary_unary", "Unknown")

    async def aio_unknown() -> Answer:
        async with aio_serving() as channel:
            return await aio_ask(channel, "unary_unary", "Unknown")

    outcomes = same_with_us(telemetry, custom, generic, added_later, unknown, aio_unknown)
    assert [outcome.messages for outcome in outcomes] == [[b"1", b"1"], [b"/t.S/Whatever"], [b"/t.S/Added"], [], []]
    assert outcomes[3].code is outcomes[4].code is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.skipif(
    not hasattr(grpc.Server, "add_registered_method_handlers"), reason="this grpcio registers no handlers"
)
def test_registered_method_handlers(telemetry: Telemetry) -> None:
    """As generated code adds them, from grpcio 1.65 on."""
    handlers = {"M": grpc.stream_stream_rpc_method_handler(lambda requests, _context: (r * 2 for r in requests))}

    def scenario() -> Answer:
        with ThreadPoolExecutor(4) as pool:
            server = grpc.server(pool)
            server.add_registered_method_handlers("t.S", handlers)
            port = server.add_insecure_port("127.0.0.1:0")
            server.start()
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                answer = ask(channel, "stream_stream")
            server.stop(None).wait()
            return answer

    (answer,) = same_with_us(telemetry, scenario)
    assert answer.messages == [b"11", b"22", b"33"]
    assert len(telemetry.stream_spans("server", 1)) == 1


def test_a_thread_pool_of_the_handlers_own(telemetry: Telemetry) -> None:
    def scenario() -> Answer:
        def handler(_request: bytes, _context: Any) -> bytes:
            return threading.current_thread().name.encode()

        with ThreadPoolExecutor(2, thread_name_prefix="mine") as mine:
            handler.experimental_thread_pool = mine  # type: ignore[attr-defined]
            return answering("unary_unary", handler)()

    (answer,) = same_with_us(telemetry, scenario)
    assert answer.messages == [b"mine_0"]


def test_non_blocking_handlers(telemetry: Telemetry) -> None:
    def sending(request: bytes, _context: Any, send: Callable[[Any], None]) -> None:
        def run() -> None:
            for message in (request, request * 2, None):
                send(message)

        threading.Thread(target=run).start()

    def raising(_request: bytes, _context: Any, _send: Callable[[Any], None]) -> None:
        raise ValueError("at once")

    for handler in (sending, raising):
        handler.experimental_non_blocking = True  # type: ignore[attr-defined]
    outcomes = same_with_us(telemetry, answering("unary_stream", sending), answering("unary_stream", raising))
    assert outcomes[0] == Answer([b"1", b"11"], OK, "", [])
    assert outcomes[1].code is grpc.StatusCode.UNKNOWN
    codes = [(span.attributes or {})["rpc.response.status_code"] for span in telemetry.stream_spans("server", 2)]
    assert codes == ["OK", "UNKNOWN"]


def test_too_many_calls_at_once(telemetry: Telemetry) -> None:
    """They are refused, and nothing of them stays open."""

    def scenario() -> Any:
        started, release = threading.Event(), threading.Event()

        def handler(request: bytes, _context: Any) -> bytes:
            started.set()
            release.wait(20)
            return request

        service = Service("t.S", M=("unary_unary", handler))
        with ThreadPoolExecutor(4) as pool, serving(pool, [service], maximum_concurrent_rpcs=1) as channel:
            first = channel.unary_unary("/t.S/M").future(b"first")
            assert started.wait(20)
            refused = [ask(channel, "unary_unary") for _ in range(3)]
            release.set()
            return refused, first.result(20)

    ((refused, first),) = same_with_us(telemetry, scenario)
    assert {answer.code for answer in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert first == b"first"
    wait_until(lambda: not open_streams(), "the calls to end")
    assert len(telemetry.stream_spans("server", 1)) == 1


def test_names_bound_before(telemetry: Telemetry) -> None:
    def scenario() -> Answer:
        handlers = [Service("t.S", M=("unary_unary", lambda request, _context: request))]
        with ThreadPoolExecutor(4) as pool, serving(pool, handlers, make=bound_server) as channel:
            return ask(channel, "unary_unary")

    async def aio_scenario() -> Answer:
        handlers = [Service("t.S", M=("unary_unary", lambda request, _context: request))]
        async with aio_serving(handlers=handlers, make=bound_aio_server) as channel:
            return await aio_ask(channel, "unary_unary")

    same_with_us(telemetry, scenario, aio_scenario)
    assert len(telemetry.stream_spans("server", 2)) == 2


def test_arguments_that_do_not_fit(telemetry: Telemetry) -> None:
    def scenario(make: Callable[[], Any]) -> Callable[[], Any]:
        async def on_a_loop() -> Any:
            return type(make()).__name__

        return on_a_loop

    pool = ThreadPoolExecutor(1)
    service = Service("t.S")
    outcomes = same_with_us(
        telemetry,
        scenario(lambda: grpc.server(pool)),
        scenario(grpc.server),
        scenario(lambda: grpc.server(pool, nonsense=1)),
        scenario(lambda: grpc.server(pool, [5])),
        scenario(lambda: grpc.server(pool, [service], 5)),
        scenario(lambda: grpc.server(pool, [service], [5])),
        scenario(lambda: grpc.server(pool, [service], None, None, None, None, None, None, None)),
        scenario(lambda: grpc.aio.server(pool)),
        scenario(lambda: grpc.aio.server(nonsense=1)),
        scenario(lambda: grpc.aio.server(pool, [5])),
        scenario(lambda: grpc.aio.server(pool, [service], [5])),
        scenario(lambda: grpc.aio.server(interceptors=5)),
    )
    assert outcomes[0] == "_Server"
    assert outcomes[7] == "Server"


# --- the OpenTelemetry context --------------------------------------------------------------------------------------


def child_of_current(telemetry: Telemetry, name: str) -> None:
    with telemetry.tracer_provider.get_tracer("user").start_as_current_span(name):
        pass


def assert_under_its_call(telemetry: Telemetry, *children: str) -> None:
    """The children hang under the server's span, which hangs under the client's."""
    server, client = telemetry.span("server"), telemetry.span("client")
    assert server.parent is not None
    assert server.parent.span_id == client.context.span_id
    found = telemetry.spans.wait_for(lambda span: span.name in children, len(children))
    assert [span.name for span in found] == list(children)
    assert {span.parent and span.parent.span_id for span in found} == {server.context.span_id}


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream", "stream_unary", "stream_stream"])
def test_spans_of_a_handler_hang_under_its_call(instrumented: Telemetry, kind: str) -> None:
    def single(_request: Any, _context: Any) -> bytes:
        child_of_current(instrumented, "first")
        child_of_current(instrumented, "last")
        return b""

    def stream(_request: Any, _context: Any) -> Iterator[bytes]:
        child_of_current(instrumented, "first")
        yield b"1"
        yield b"2"
        child_of_current(instrumented, "last")

    assert answering(kind, stream if kind.endswith("stream") else single)().code is OK
    assert_under_its_call(instrumented, "first", "last")


async def _coroutine(telemetry: Telemetry, request: Any, _context: Any) -> bytes:
    child_of_current(telemetry, "first")
    await read_all(request)
    child_of_current(telemetry, "last")
    return b""


async def _generator(telemetry: Telemetry, request: Any, _context: Any) -> AsyncIterator[bytes]:
    child_of_current(telemetry, "first")
    yield b"1"
    await read_all(request)
    yield b"2"
    child_of_current(telemetry, "last")


async def _writing(telemetry: Telemetry, request: Any, context: Any) -> None:
    child_of_current(telemetry, "first")
    await context.write(b"1")
    await read_all(request)
    await asyncio.create_task(_task(telemetry))


async def _task(telemetry: Telemetry) -> None:
    child_of_current(telemetry, "last")


def _plain(telemetry: Telemetry, request: Any, _context: Any) -> bytes:
    child_of_current(telemetry, "first")
    drain(request)
    child_of_current(telemetry, "last")
    return b""


def _plain_generator(telemetry: Telemetry, request: Any, _context: Any) -> Iterator[bytes]:
    child_of_current(telemetry, "first")
    yield b"1"
    drain(request)
    yield b"2"
    child_of_current(telemetry, "last")


def _plain_iterator(telemetry: Telemetry, _request: Any, _context: Any) -> Iterator[bytes]:
    child_of_current(telemetry, "first")

    def responses() -> Iterator[bytes]:
        yield b"1"
        child_of_current(telemetry, "last")

    return responses()


@pytest.mark.parametrize(
    ("kind", "handler"),
    [
        ("unary_unary", _coroutine),
        ("stream_unary", _coroutine),
        ("unary_stream", _generator),
        ("stream_stream", _generator),
        ("unary_stream", _writing),
        ("stream_stream", _writing),
        ("unary_unary", _plain),
        ("stream_unary", _plain),
        ("unary_stream", _plain_generator),
        ("stream_stream", _plain_generator),
        ("unary_stream", _plain_iterator),
    ],
)
def test_spans_of_an_asyncio_handler_hang_under_its_call(instrumented: Telemetry, kind: str, handler: Any) -> None:
    bound = handler.__get__(instrumented)  # of the same kind as the function: grpc chooses by it how to call
    assert asyncio.run(aio_answering(kind, bound)()).code is OK
    assert_under_its_call(instrumented, "first", "last")


def test_the_context_of_a_call_ends_with_it(telemetry: Telemetry) -> None:
    """The next call on the same thread does not run under the last one's span, and neither does anything else."""
    current: list[Any] = []

    def handler(request: bytes, _context: Any) -> bytes:
        current.append(trace.get_current_span())
        return request

    def stream(request: bytes, context: Any) -> Iterator[bytes]:
        yield handler(request, context)

    async def aio_scenario(pool: ThreadPoolExecutor) -> None:
        methods = {"M": ("unary_unary", handler), "Left": ("unary_unary", handler), "Stream": ("unary_stream", stream)}
        async with aio_serving(pool, [Service("t.S", **methods)]) as channel:
            await aio_ask(channel, "unary_unary")
            await aio_ask(channel, "unary_stream", "Stream")
            await aio_ask(channel, "unary_unary", "Left")

    instrumentor = GrpcStreamInstrumentor()
    instrumentor.instrument(
        tracer_provider=telemetry.tracer_provider,
        meter_provider=telemetry.meter_provider,
        filter_=lambda details: not details.method.endswith("/Left"),
    )
    try:
        for run in ("sync", "aio"):
            current.clear()
            with ThreadPoolExecutor(1) as pool:
                if run == "aio":
                    asyncio.run(aio_scenario(pool))
                else:
                    methods = {
                        "M": ("unary_unary", handler),
                        "Left": ("unary_unary", handler),
                        "Stream": ("unary_stream", stream),
                    }
                    with serving(pool, [Service("t.S", **methods)]) as channel:
                        ask(channel, "unary_unary")
                        ask(channel, "unary_stream", "Stream")
                        ask(channel, "unary_unary", "Left")
                assert [span.get_span_context().is_valid for span in current] == [True, True, False]
                assert not pool.submit(otel_context.get_current).result()
    finally:
        instrumentor.uninstrument()


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def test_context_variables_of_the_handlers_own(telemetry: Telemetry) -> None:
    """Set by an interceptor or at a stream's first message, they are there at its last, and not in the next call."""

    def seen() -> bytes:
        before = variable.get()
        variable.set("set")
        return before.encode()

    def stream(_request: Any, _context: Any) -> Iterator[bytes]:
        for _ in range(3):
            yield seen()

    async def aio_stream(_request: Any, _context: Any) -> AsyncIterator[bytes]:
        for _ in range(3):
            yield seen()

    def scenario() -> list[Answer]:
        with ThreadPoolExecutor(1) as pool, serving(pool, [Service("t.S", M=("unary_stream", stream))]) as channel:
            return [ask(channel, "unary_stream") for _ in range(2)]

    async def aio_scenario() -> list[Answer]:
        async with aio_serving(handlers=[Service("t.S", M=("unary_stream", aio_stream))]) as channel:
            return [await aio_ask(channel, "unary_stream") for _ in range(2)]

    for answers in same_with_us(telemetry, scenario, aio_scenario):
        assert [answer.messages for answer in answers] == [[b"unset", b"set", b"set"]] * 2

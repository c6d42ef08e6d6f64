"""Streams in trouble on real servers: what is known of them, and the line that is named."""

from __future__ import annotations

import asyncio
import gc
import itertools
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from otelstream import leftovers
from otelstream.findings import Kind, OpenStream
from otelstream.intercept.trouble import Streams
from otelstream.runtime import _shared, left_behind
from otelstream.testing import Service, Telemetry, serving, wait_until
from tests.instrumented import instrumented_with

METHOD = "test.Trouble/Talk"
BIG = bytes(200_000)
PATIENCE_S = 5.0

GRPCIO = tuple(int(part) for part in grpc.__version__.split(".")[:2])


awaits_what_it_cancels = pytest.mark.skipif(
    sys.version_info < (3, 11) and GRPCIO < (1, 72), reason="neither Python nor grpcio tells that the task is cancelled"
)


def at(mark: str) -> str:
    """Where the line is that ends with ``mark``."""
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    number = next(number for number, text in enumerate(lines, 1) if text.endswith(f"# <- {mark}"))
    return f"(tests/integration/test_trouble.py:{number})"


def look(side: str = "server") -> list[OpenStream]:
    """The streams of ``side`` as they are now; idleness does not matter."""
    (runtime,) = _shared.values()
    now_ns = runtime.calls.clock()
    streams = Streams(runtime._handlers, 0.0).look(runtime.calls.now_open(), now_ns)
    return [stream for stream in streams if stream.side == side]


def found(
    is_it: Callable[[OpenStream], bool], what: str, side: str = "server", patience_s: float = PATIENCE_S
) -> OpenStream:
    """The one stream, once ``is_it`` holds of it twice with no message between: it does not merely pass by."""
    seen: list[OpenStream] = []

    def holds() -> bool:
        one, two = look(side), look(side)
        if len(one) == len(two) == 1 and is_it(one[0]) and is_it(two[0]) and one[0].sent == two[0].sent:
            seen.append(two[0])
        return bool(seen)

    wait_until(holds, what, patience_s)
    return seen[0]


def in_trouble(stream: OpenStream) -> list[str]:
    troubles = {
        "gone": stream.call_ended is not None,
        "half closed": stream.half_closed,
        "blocked": stream.sending_blocked,
    }
    return [name for name, is_so in troubles.items() if is_so]


@contextmanager
def calling(kind: str, handler: Callable[..., Any]) -> Iterator[Any]:
    """The multi-callable of a sync server's one method."""
    with (
        serving(Service("test.Trouble", Talk=(kind, handler))) as port,
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        yield getattr(channel, kind)(f"/{METHOD}")


class Gate:
    """Says that a handler has come to a place, and lets it go on."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()

    def wait(self) -> None:
        self.reached.set()
        assert self.opened.wait(PATIENCE_S)


def forever() -> tuple[Iterator[bytes], threading.Event]:
    """A client's requests: one, and then none until the event is set."""
    stop = threading.Event()

    def requests() -> Iterator[bytes]:
        yield b"one"
        stop.wait(PATIENCE_S)

    return requests(), stop


class TestSync:
    @pytest.mark.parametrize("kind", ["stream_stream", "stream_unary"])
    def test_a_handler_that_goes_on_after_the_client_has_finished(self, instrumented: Telemetry, kind: str) -> None:
        gate = Gate()

        def stream(requests: Iterator[bytes], _context: Any) -> Iterator[bytes]:
            yield from requests
            gate.wait()  # <- stream goes on

        def single(requests: Iterator[bytes], _context: Any) -> bytes:
            for _ in requests:
                pass
            gate.wait()
            return b"done"

        with calling(kind, stream if kind == "stream_stream" else single) as talk:
            call = talk(iter([b"one"])) if kind == "stream_stream" else talk.future(iter([b"one"]))
            assert gate.reached.wait(PATIENCE_S)
            stream_ = found(lambda stream: "half closed" in in_trouble(stream), "the half-close to show")
            assert in_trouble(stream_) == ["half closed"]
            where = at("stream goes on") if kind == "stream_stream" else "wait (tests/integration/test_trouble.py:"
            assert where in (stream_.where or "")
            gate.opened.set()
            call.result() if kind == "stream_unary" else list(call)

    def test_a_client_that_has_not_finished(self, instrumented: Telemetry) -> None:
        requests, stop = forever()

        def handler(requests: Iterator[bytes], _context: Any) -> Iterator[bytes]:
            yield from requests

        with calling("stream_stream", handler) as talk:
            call = talk(requests)
            assert next(call) == b"one"
            stream = found(lambda stream: not in_trouble(stream), "a stream that is well")
            assert stream.where is not None
            assert "handler (tests/integration/test_trouble.py:" in stream.where
            (client,) = look("client")
            assert client.where is not None
            assert "test_a_client_that_has_not_finished" in client.where
            assert in_trouble(client) == []
            stop.set()
            assert list(call) == []

    def test_a_handler_whose_client_does_not_read(self, instrumented: Telemetry) -> None:
        def handler(_request: bytes, context: Any) -> Iterator[bytes]:
            while context.is_active():
                yield BIG  # <- sends

        with calling("unary_stream", handler) as talk:
            call = talk(b"")
            assert next(call) == BIG
            stream = found(lambda stream: stream.sending_blocked and stream.sent > 1, "the server to be blocked")
            assert in_trouble(stream) == ["blocked"]
            assert (stream.where or "").endswith(at("sends"))
            call.cancel()

    def test_a_client_whose_server_does_not_read(self, instrumented: Telemetry) -> None:
        gate = Gate()

        def handler(_requests: Iterator[bytes], _context: Any) -> Iterator[bytes]:
            gate.wait()
            yield from ()

        with calling("stream_stream", handler) as talk:
            call = talk(itertools.repeat(BIG))
            stream = found(lambda stream: stream.sending_blocked, "the client to be blocked", "client")
            assert "test_a_client_whose_server_does_not_read" in (stream.where or "")
            assert in_trouble(stream) == ["blocked"]
            call.cancel()
            gate.opened.set()

    @pytest.mark.parametrize("kind", ["unary_stream", "unary_unary"])
    def test_a_handler_that_goes_on_when_its_client_is_gone(self, instrumented: Telemetry, kind: str) -> None:
        gate = Gate()

        def stream(_request: bytes, _context: Any) -> Iterator[bytes]:
            gate.wait()
            yield b"late"

        def single(_request: bytes, _context: Any) -> bytes:
            gate.wait()
            return b"late"

        with calling(kind, stream if kind == "unary_stream" else single) as talk:
            call = talk(b"") if kind == "unary_stream" else talk.future(b"")
            assert gate.reached.wait(PATIENCE_S)
            call.cancel()
            gone = found(lambda stream: stream.call_ended is not None, "the call to end")
            function = "stream" if kind == "unary_stream" else "wait"
            assert f"{function} (tests/integration/test_trouble.py:" in (gone.where or "")
            (left,) = [finding for finding in left_behind() if finding.kind is Kind.PEER_GONE]
            assert left.side == "server"
            assert "1 handler is still running though the call has ended" in leftovers.lines([left])[0]
            assert [finding for finding in left_behind(_shared_now()) if finding.kind is Kind.PEER_GONE] == []
            gate.opened.set()
            wait_until(lambda: look() == [], "the handler to return")

    def test_open_streams_are_left_behind_on_both_sides(self, instrumented: Telemetry) -> None:
        requests, stop = forever()

        def handler(requests: Iterator[bytes], _context: Any) -> Iterator[bytes]:
            yield from requests

        with calling("stream_stream", handler) as talk:
            call = talk(requests)
            next(call)
            left = [finding for finding in left_behind() if finding.kind is Kind.STREAM_NOT_CLOSED]
            assert sorted(str(finding.side) for finding in left) == ["client", "server"]
            stop.set()
            list(call)
            del call
            wait_until(lambda: left_behind() == [], "nothing to be left")


def _shared_now() -> int:
    (runtime,) = _shared.values()
    return runtime.calls.clock()


def _shared_open() -> int:
    (runtime,) = _shared.values()
    return runtime.calls.count_open()


def in_loop(kind: str, handler: Callable[..., Any], use: Callable[[Any, Gate], Awaitable[None]], gate: Gate) -> None:
    """``use`` the multi-callable of an asyncio server's one method, and the gate that its handler waits at."""

    async def main() -> None:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((Service("test.Trouble", Talk=(kind, handler)),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                await use(getattr(channel, kind)(f"/{METHOD}"), gate)
        finally:
            gate.opened.set()
            await server.stop(0)

    asyncio.run(main())


async def away(function: Callable[..., Any], *args: Any) -> Any:
    """``function(*args)`` while the loop goes on."""
    return await asyncio.get_running_loop().run_in_executor(None, function, *args)  # <- waits away


async def pause(gate: Gate) -> None:
    gate.reached.set()
    await away(gate.opened.wait, PATIENCE_S)


async def end(call: Any) -> None:
    call.cancel()
    await asyncio.wait([asyncio.ensure_future(call.code())])


class Slotted:
    """A message that takes no weak references."""

    __slots__ = ("content",)

    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialized(self) -> bytes:
        return self.content


def test_nothing_is_held_when_nothing_is_instrumented_any_more(telemetry: Telemetry) -> None:
    def echo(requests: Iterator[Slotted], _context: Any) -> Iterator[Slotted]:
        yield from requests

    service = Service("test.Trouble", serializer=Slotted.serialized, deserializer=Slotted, Talk=("stream_stream", echo))
    with (
        instrumented_with(telemetry),
        serving(service) as port,
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        talk: Any = channel.stream_stream(f"/{METHOD}")
        assert len(list(talk(iter([b"one", b"two"])))) == 2
    gc.collect()
    assert [item for item in gc.get_objects() if type(item) is Slotted] == []


class TestAio:
    @pytest.mark.parametrize("kind", ["stream_stream", "stream_unary"])
    def test_a_handler_that_goes_on_after_the_client_has_finished(self, instrumented: Telemetry, kind: str) -> None:
        async def stream(requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
            async for request in requests:
                yield request
            await pause(gate)

        async def single(requests: AsyncIterator[bytes], _context: Any) -> bytes:
            async for _ in requests:
                pass
            await pause(gate)
            return b"done"

        async def use(talk: Any, gate: Gate) -> None:
            call = talk()
            await call.write(b"one")
            if kind == "stream_stream":
                assert await call.read() == b"one"
            before = await away(found, lambda stream: not in_trouble(stream), "a stream that is well")
            assert not before.half_closed
            await call.done_writing()
            assert await away(gate.reached.wait, PATIENCE_S)
            after = await away(found, lambda stream: stream.half_closed, "the half-close to show")
            assert in_trouble(after) == ["half closed"]
            assert (after.where or "").endswith(at("waits away"))
            gate.opened.set()
            assert await call.code() is grpc.StatusCode.OK

        gate = Gate()
        in_loop(kind, stream if kind == "stream_stream" else single, use, gate)

    def test_a_generator_whose_client_does_not_read(self, instrumented: Telemetry) -> None:
        async def handler(_request: bytes, _context: Any) -> AsyncIterator[bytes]:
            while True:
                yield BIG  # <- generator sends

        async def use(talk: Any, _gate: Gate) -> None:
            call = talk(b"")
            await call.read()
            stream = await away(found, lambda stream: stream.sending_blocked, "the server to be blocked")
            assert in_trouble(stream) == ["blocked"]
            assert (stream.where or "").endswith(at("generator sends"))
            await end(call)

        in_loop("unary_stream", handler, use, Gate())

    def test_a_coroutine_whose_client_does_not_read(self, instrumented: Telemetry) -> None:
        async def handler(_request: bytes, context: Any) -> None:
            while True:
                await context.write(BIG)  # <- coroutine sends

        async def use(talk: Any, _gate: Gate) -> None:
            call = talk(b"")
            await call.read()
            stream = await away(found, lambda stream: stream.sent > 1, "the server to send")
            assert (stream.where or "").endswith(at("coroutine sends"))
            try:
                stream = await away(
                    found, lambda stream: stream.sending_blocked, "the server to be blocked", "server", 0.5
                )
                assert in_trouble(stream) == ["blocked"]
            finally:
                await end(call)

        in_loop("unary_stream", handler, use, Gate())

    def test_a_handler_that_is_called_write_and_reads(self, instrumented: Telemetry) -> None:
        async def write_log(_requests: Any, context: Any) -> None:
            while await context.read() is not grpc.aio.EOF:  # <- write_log reads
                pass

        async def use(talk: Any, _gate: Gate) -> None:
            call = talk()
            await call.write(b"one")
            stream = await away(found, lambda stream: stream.received == 1, "the message to arrive")
            assert (stream.where or "").endswith(at("write_log reads"))
            assert in_trouble(stream) == []
            await end(call)

        in_loop("stream_stream", write_log, use, Gate())

    @awaits_what_it_cancels
    def test_a_handler_that_goes_on_when_its_client_is_gone(self, instrumented: Telemetry) -> None:
        async def handler(_request: bytes, context: Any) -> None:
            await context.write(b"one")
            try:
                await asyncio.sleep(PATIENCE_S)
            except asyncio.CancelledError:
                await pause(gate)

        async def use(talk: Any, gate: Gate) -> None:
            call = talk(b"")
            await call.read()
            await away(found, lambda stream: in_trouble(stream) == [], "the write to be over")
            call.cancel()
            assert await away(gate.reached.wait, PATIENCE_S)
            stream = await away(found, lambda stream: stream.call_ended is not None, "the peer to be gone")
            assert in_trouble(stream) == ["gone"]
            (left,) = [finding for finding in await away(left_behind) if finding.kind is Kind.PEER_GONE]
            assert left.side == "server"
            gate.opened.set()

        gate = Gate()
        in_loop("unary_stream", handler, use, gate)

    def test_a_handler_that_swallowed_a_cancellation_of_its_own(self, instrumented: Telemetry) -> None:
        async def handler(requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
            async for request in requests:
                yield request

        async def use(talk: Any, _gate: Gate) -> None:
            call = talk()
            await call.write(b"one")
            assert await call.read() == b"one"
            stream = await away(found, lambda stream: not stream.sending_blocked, "the answer to be gone")
            await end(call)
            assert in_trouble(stream) == []

        in_loop("stream_stream", handler, use, Gate())

    def test_looking_does_not_call_what_belongs_to_the_application(self, instrumented: Telemetry) -> None:
        called: list[str] = []

        class Callback:
            def __call__(self, _task: Any) -> None:
                """When the task is done."""

            def __repr__(self) -> str:
                called.append("repr")
                return "payload"

        async def handler(requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
            task = asyncio.current_task()
            assert task is not None
            task.add_done_callback(Callback())
            async for request in requests:
                yield request

        async def use(talk: Any, _gate: Gate) -> None:
            call = talk()
            await call.write(b"one")
            assert await call.read() == b"one"
            called.clear()
            await away(look)
            seen = list(called)
            await end(call)
            assert seen == []

        in_loop("stream_stream", handler, use, Gate())

    def test_a_plain_handler_that_goes_on_when_its_client_is_gone(
        self, instrumented: Telemetry, lenient_guard: dict[str, str]
    ) -> None:
        """It runs in a thread, which nothing cancels."""
        left: list[list[str]] = []

        def handler(_requests: Any, _context: Any) -> bytes:  # <- plain handler
            gate.wait()
            return b"late"

        async def use(talk: Any, gate: Gate) -> None:
            call = talk()
            await call.write(b"one")
            assert await away(gate.reached.wait, PATIENCE_S)
            (stream,) = await away(look)
            assert (stream.where or "").endswith(at("plain handler"))
            await end(call)
            await away(wait_until, lambda: not _shared_open(), "the call to end")
            left.extend(in_trouble(stream) for stream in await away(look))
            gate.opened.set()

        gate = Gate()
        in_loop("stream_unary", handler, use, gate)
        assert lenient_guard == {}
        assert left == [["gone"]]

    @pytest.mark.parametrize("kind", ["unary_unary", "unary_stream"])
    def test_a_handler_that_ends_after_its_call_is_no_fault(
        self, instrumented: Telemetry, lenient_guard: dict[str, str], kind: str
    ) -> None:
        returned = threading.Event()

        def single(_request: bytes, _context: Any) -> bytes:
            gate.wait()
            returned.set()
            return b"late"

        async def raising(_request: bytes, _context: Any) -> AsyncIterator[bytes]:
            try:
                while True:
                    yield BIG
            finally:
                returned.set()
                raise ValueError("at the end")

        async def use(talk: Any, gate: Gate) -> None:
            call = talk(b"")
            if kind == "unary_unary":
                assert await away(gate.reached.wait, PATIENCE_S)
            else:
                await call.read()
            await end(call)
            await away(wait_until, lambda: all(s.call_ended is not None for s in look()), "the call to end")
            gate.opened.set()
            assert await away(returned.wait, PATIENCE_S)

        gate = Gate()
        in_loop(kind, single if kind == "unary_unary" else raising, use, gate)
        assert lenient_guard == {}

"""What finding leaks costs: ``python -m benchmarks.leaks [--markdown]``, about a minute.

Per message: the CPU time of the codecs' closures with messages followed minus without, measured in turns. The rest: how
long a sweep, a look at the tasks, and a report take, and how long a report keeps an event loop waiting.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click
import grpc

import otelstream
from benchmarks.variants import versions
from otelstream.demo.v1 import ticks_pb2
from otelstream.findings import Kind
from otelstream.intercept.codec import counting_decoder
from otelstream.memory.origin import Origin
from otelstream.memory.outliving import OutlivingWork
from otelstream.memory.retained import RetainedMessages
from otelstream.memory.samples import Pool
from otelstream.observers import Guard
from otelstream.record import Call, Outcome, RpcType, Side
from otelstream.runtime import left_behind
from otelstream.testing import Service

_DATA = ticks_pb2.Order(symbol="ACME", quantity=1, padding=bytes(200)).SerializeToString()
_STEPS = 5000
_METHOD = "benchmarks.Leaks/Talk"


class Receiving:
    """A stream that receives, with its messages followed or not, and what it allocates said to be its own or not."""

    def __init__(self, samples: int, *, attributed: bool = False) -> None:
        self._retained = RetainedMessages(samples, 5.0)
        call = Call(_METHOD, Side.SERVER, RpcType.BIDI_STREAM, time.time_ns())
        self._retained.attach(call)
        call.origin = Origin(call) if attributed else None
        self._decode = counting_decoder(call, ticks_pb2.Order.FromString, time.time_ns, Guard(strict=True))
        self._id = call.id

    def ns_per_message(self) -> float:
        """CPU time of this thread."""
        decode = self._decode
        started = time.thread_time_ns()
        for _ in range(_STEPS):
            decode(_DATA)
        spent = time.thread_time_ns() - started
        return spent / _STEPS

    def sweep(self) -> None:
        """What the ticker does every second, on a thread of its own."""
        self._retained.sweep(time.time_ns(), (self._id,))


def per_message(rounds: int) -> Iterator[tuple[str, str]]:
    """The first messages of a stream are all followed, then ever fewer: 500 a second."""
    firsts, later = [], []
    for _ in range(rounds):
        followed, bare = Receiving(1024), Receiving(0)
        bare.ns_per_message()  # the interpreter specializes its bytecode
        firsts.append(followed.ns_per_message() - bare.ns_per_message())
        for _ in range(20):
            followed.ns_per_message()
            followed.sweep()
        later += [followed.ns_per_message() - bare.ns_per_message() for _ in range(5)]
    yield "per message, the first 5,000 of a stream", spread(firsts, "ns")
    yield "per message, from the 100,000th on, at full speed", spread(later, "ns")


def sweeps(rounds: int) -> Iterator[tuple[str, str]]:
    """All retained: nothing is dropped, everything is looked at."""
    for count in (256, 1024):
        pool = Pool(count + 1)
        kept = [ticks_pb2.Order() for _ in range(count)]
        for number, message in enumerate(kept):
            pool.add(message, number, 1, 100, 1, 0)
        times = [time_us(lambda: pool.sweep(time.time_ns(), 0, bool)) for _ in range(10 * rounds)]  # noqa: B023
        yield f"a sweep of {count} samples", spread(times, "µs")


def looks(rounds: int) -> Iterator[tuple[str, str]]:
    """At tasks that have outlived their call."""

    async def main() -> list[float]:
        work = OutlivingWork()

        async def handler() -> Call:
            call = Call(_METHOD, Side.SERVER, RpcType.BIDI_STREAM, time.time_ns())
            work.enter(call)
            leaked.extend(asyncio.create_task(asyncio.Event().wait()) for _ in range(1000))
            return call

        leaked: list[asyncio.Task[Any]] = []
        call = await asyncio.create_task(handler())
        await asyncio.sleep(0)
        call.end(Outcome.OK, "OK", time.time_ns())
        work.ended(call)
        times = [time_us(lambda: work.look(time.time_ns() + 10**10)) for _ in range(rounds)]
        assert sum(work.tasks.values()) == len(leaked)
        for task in leaked:
            task.cancel()
        await asyncio.gather(*leaked, return_exceptions=True)
        return times

    yield "a look at 1,000 tasks", spread(asyncio.run(main()), "µs")


def reports(rounds: int, sizes: Sequence[int]) -> Iterator[tuple[str, str]]:
    """With 1,000 streams open, messages kept, and so many other objects around; asked for on another thread."""
    instrumentor = otelstream.GrpcStreamInstrumentor()
    instrumentor.instrument()
    measured = asyncio.run(_reports(rounds, sizes))  # in one loop: grpc.aio does not like a second one
    instrumentor.uninstrument()
    for size, pauses in zip(sizes, measured, strict=True):
        longest, took = zip(*pauses, strict=True)
        yield f"naming what is kept, with a garbage collection, among {size:,} more objects", spread(took, "ms")
        yield "the longest that the event loop waited meanwhile", spread(longest, "ms")


async def _reports(rounds: int, sizes: Sequence[int]) -> list[list[tuple[float, float]]]:
    kept: list[Any] = []
    ballast: list[Any] = []

    async def talk(requests: Any, _context: Any) -> Any:
        async for request in requests:
            kept.append(request)
            yield request

    server = grpc.aio.server()
    serializer, deserializer = ticks_pb2.Order.SerializeToString, ticks_pb2.Order.FromString
    service = Service(
        "benchmarks.Leaks", serializer=serializer, deserializer=deserializer, Talk=("stream_stream", talk)
    )
    server.add_generic_rpc_handlers((service,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    measured = []
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = channel.stream_stream(f"/{_METHOD}", request_serializer=serializer, response_deserializer=deserializer)
        calls = [stub() for _ in range(1000)]
        for _ in range(5):
            for call in calls:
                await call.write(ticks_pb2.Order(symbol="ACME"))
            for call in calls:
                await call.read()
        for size in sizes:
            ballast += [[number] for number in range(size - len(ballast))]
            measured.append([await _pauses(_report) for _ in range(rounds)])
        for call in calls:
            call.cancel()
    await server.stop(None)
    return measured


async def _pauses(during: Callable[[], object]) -> tuple[float, float]:
    """(the longest time between two turns of the loop, how long ``during`` took), ms."""
    done = asyncio.get_running_loop().run_in_executor(None, during)
    started = last = time.perf_counter()
    longest = 0.0
    while not done.done():
        await asyncio.sleep(0)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    await done
    return longest * 1e3, (time.perf_counter() - started) * 1e3


def _report() -> None:
    """With all that is kept searched, as at exit: a report searches only what grows."""
    otelstream.leak_report()
    assert any("kept" in (finding.holder or "") for finding in left_behind() if finding.kind is Kind.MESSAGES_RETAINED)


def time_us(step: Callable[[], object]) -> float:
    """How long ``step`` took."""
    started = time.perf_counter()
    step()
    return (time.perf_counter() - started) * 1e6


def spread(values: Sequence[float], unit: str, digits: int = 0) -> str:
    """The median, and in brackets the lowest tenth and the most."""
    ordered = sorted(values)
    median, low, most = statistics.median(ordered), ordered[len(ordered) // 10], ordered[-1]
    return f"{median:,.{digits}f} {unit} [{low:,.{digits}f}, {most:,.{digits}f}]"


@click.command(help=__doc__)
@click.option("--rounds", default=20, show_default=True)
@click.option("--markdown", is_flag=True, help="Print the table as README.md has it.")
def main(rounds: int, markdown: bool) -> None:
    """Measure and print."""
    rows = [*per_message(rounds), *sweeps(rounds), *looks(rounds), *reports(5, (100_000, 1_000_000))]
    click.echo(", ".join(f"{name} {value}" for name, value in versions().items()) + "\n")
    if markdown:
        click.echo("| what | median [10 %, most] |\n|---|---:|")
    for name, value in rows:
        click.echo(f"| {name} | {value} |" if markdown else f"{name:60}{value:>40}")


if __name__ == "__main__":
    main()

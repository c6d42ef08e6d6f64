"""A live service's heap profile, fetched from its debug address: what each method and each stream holds, and where."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner

from otelstream.cli import main
from otelstream.demo.v1 import ticks_pb2, ticks_pb2_grpc
from otelstream.profile import pprof
from otelstream.profile.model import Profile
from tests.integration.programs import Program, Start, collector, start
from tests.integration.test_go_pprof import Pprof, tool
from tests.tools import needs

__all__ = ["collector", "start", "tool"]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="protobuf's memory is seen on Linux only")

TRADE, QUOTE = "otelstream.demo.v1.TickFeed/Trade", "otelstream.demo.v1.TickFeed/GetQuote"
SIZE, COUNT = 10_000, 6_000
"""Of each message, By; and how many on the larger stream. The smaller has half of it."""


class Service:
    """The program, with what a client has done to it."""

    def __init__(self, program: Program) -> None:
        self.port, self.debug_port = program.line().split()
        with closing(HTTPConnection(f"127.0.0.1:{self.debug_port}", timeout=20)) as connection:
            connection.request("GET", "/debug/pprof/heap")
            answer = connection.getresponse()
            needs(answer.status == 200, f"the heap profiler's extension: {answer.read()!r}")

    def trade(self, word: str, count: int) -> None:
        """One stream that sends so many orders of ``SIZE`` By."""
        order = ticks_pb2.Order(symbol=word + "x" * (SIZE - len(word)))
        with grpc.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            assert sum(1 for _ in ticks_pb2_grpc.TickFeedStub(channel).Trade(iter([order] * count))) == count

    def quote(self, count: int) -> None:
        request = ticks_pb2.QuoteRequest(symbol="x" * SIZE)
        with grpc.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            stub = ticks_pb2_grpc.TickFeedStub(channel)
            for _ in range(count):
                stub.GetQuote(request)

    def profile(self, file: Path, *options: str) -> Profile:
        """As ``otelstream heap`` writes it."""
        arguments = ["heap", f"127.0.0.1:{self.debug_port}", "-o", str(file), *options]
        result = CliRunner().invoke(main, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return pprof.decode(file.read_bytes())


@pytest.fixture(params=["sync", "aio"])
def service(request: pytest.FixtureRequest, start: Start) -> Iterator[Service]:
    program = start(
        *("-m", "tests.integration.heap.service", request.param), OTEL_PYTHON_OTELSTREAM_DEBUG_ADDR="127.0.0.1:0"
    )
    yield Service(program)
    program.end()


def by(profile: Profile, *labels: str) -> Counter[tuple[str, ...]]:
    """By of each combination of these labels."""
    sizes: Counter[tuple[str, ...]] = Counter()
    for sample in profile.samples:
        found = dict(sample.labels)
        sizes[tuple(found.get(label, "") for label in labels)] += sample.values[1]
    return sizes


def test_each_method_and_stream_has_what_it_keeps(service: Service, tmp_path: Path, tool: str) -> None:
    service.trade("keep", COUNT)
    service.trade("keep", COUNT // 2)
    service.trade("note", COUNT // 10)
    service.trade("drop", COUNT)
    service.quote(COUNT // 10)

    file = tmp_path / "heap.pb.gz"
    profile = service.profile(file)

    kinds = by(profile, "rpc_method", "rpc_side", "memory_kind")
    assert kinds[TRADE, "server", "protobuf"] == pytest.approx(SIZE * COUNT * 1.5, rel=0.15)
    assert kinds[TRADE, "server", "python"] == pytest.approx(SIZE * COUNT + 150 * COUNT, rel=0.2)
    assert kinds[QUOTE, "server", "protobuf"] == pytest.approx(SIZE * COUNT // 10, rel=0.4)
    streams = by(profile, "span_id", "memory_kind", "rpc_method")
    largest = sorted(size for (_, *which), size in streams.items() if which == ["protobuf", TRADE])[-2:]
    assert largest == [pytest.approx(SIZE * COUNT // 2, rel=0.25), pytest.approx(SIZE * COUNT, rel=0.2)]
    assert max(size for key, size in kinds.items() if key[0] not in (TRADE, QUOTE)) < SIZE * COUNT // 10

    of_trade = [each for each in profile.samples if ("rpc_method", TRADE) in each.labels and each.values[1] > 1e6]
    assert all(any(frame.function.endswith("Trade") for frame in each.stack) for each in of_trade)
    most = SIZE * COUNT / 10
    noted = [each for each in of_trade if ("memory_kind", "python") in each.labels and each.values[1] > most]
    assert {each.stack[0].function for each in noted} == {"keep"}

    rows = Pprof(tool, tmp_path).rows("-tagfocus=rpc_method=.*Trade$", "-unit=B", str(file))
    flat = {row[-1]: float(row[0].removesuffix("B")) for row in rows}
    assert flat["keep"] == pytest.approx(SIZE * COUNT, rel=0.2)
    assert flat["deserialize"] == pytest.approx(SIZE * COUNT * 1.5, rel=0.2)


def test_growth_is_told_from_stock(service: Service, tmp_path: Path) -> None:
    service.trade("keep", COUNT // 4)
    before = service.profile(tmp_path / "before.pb.gz")
    service.trade("note", COUNT // 20)
    after = service.profile(tmp_path / "after.pb.gz")
    recent = service.profile(tmp_path / "recent.pb.gz", "--since", f"{(after.time_ns - before.time_ns) / 1e9:.3f}")

    assert by(recent, "memory_kind")["protobuf",] < SIZE * COUNT // 20
    assert by(recent, "rpc_method")[TRADE,] == pytest.approx(SIZE * COUNT // 2, rel=0.25)
    compared = CliRunner().invoke(
        main,
        ["heap", "--diff", str(tmp_path / "before.pb.gz"), str(tmp_path / "after.pb.gz"), "-o", str(tmp_path / "diff")],
    )
    assert compared.exit_code == 0, compared.output
    grown = pprof.decode((tmp_path / "diff").read_bytes())
    assert by(grown, "rpc_method")[TRADE,] == pytest.approx(SIZE * COUNT // 2, rel=0.25)

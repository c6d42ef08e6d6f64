"""The documented variables send the same spans to a real Zipkin server, which finds the open stream by its tag."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from otelstream.testing import wait_until
from tests.stack.conftest import require, require_module
from tests.stack.load import SERVICE, Load
from tests.stack.servers import BIN, COMPOSE, Server, free_port
from tests.stack.web import get

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def zipkin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Zipkin server that keeps spans in memory."""
    jar = BIN / "zipkin.jar"
    require(jar, "make stack-binaries")
    require(shutil.which("java") or "java", "install Java 17")
    port = free_port()
    server = Server(
        ["java", "-Xmx256m", "-jar", str(jar), f"--server.port={port}", "--server.address=127.0.0.1"],
        {"QUERY_PORT": str(port), "STORAGE_TYPE": "mem", "SELF_TRACING_ENABLED": "false"},
        tmp_path_factory.mktemp("zipkin") / "log",
        f"http://127.0.0.1:{port}/health",
    )
    try:
        server.start()
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop()


def documented(address: str) -> dict[str, str]:
    """The variables that README.md says to set, for a server at ``address``."""
    section = (COMPOSE / "README.md").read_text().partition("## Zipkin\n")[2].partition("\n## ")[0]
    exports = dict(re.findall(r"^export (\w+)=(\S+)$", section, flags=re.MULTILINE))
    assert len(exports) == 2
    return {name: value.replace("http://localhost:9411", address) for name, value in exports.items()}


def test_an_open_stream_is_found_by_its_tag(zipkin: str, tmp_path: Path) -> None:
    require_module("opentelemetry.exporter.zipkin.json")
    load = Load(tmp_path / "log", **documented(zipkin), OTEL_METRICS_EXPORTER="none", OTEL_LOGS_EXPORTER="none")
    try:

        def found() -> list[list[dict[str, Any]]]:
            query = "otelstream.stream.state=open"
            return list(get(f"{zipkin}/api/v2/traces", serviceName=SERVICE, annotationQuery=query, limit=10))

        wait_until(found, "Zipkin to find the open stream", 40)
        spans = [span for trace in found() for span in trace]
        assert {span["name"] for span in spans} == {"tests.load/chat open"}, "no stream span is there yet"
        for span in spans:
            assert span["parentId"]
            assert int(span["tags"]["process.memory.usage"]) > 10e6
            assert any("rpc.message" in annotation["value"] for annotation in span["annotations"])
    finally:
        load.end()
    wait_until(lambda: any(span["name"] == "tests.load/chat" for trace in found() for span in trace), "the stream span")
    assert not [line for line in load.logged() if "export" in line]

"""The command line, as far as no program has to run for it."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from opentelemetry.sdk import resources

from otelstream import _bootstrap
from otelstream._bootstrap import process_end, start
from otelstream.cli import main
from otelstream.cli.run import instrumented, name_of
from otelstream.demo import table
from otelstream.demo.endpoint import endpoint_of, listens, local_port
from otelstream.demo.settings import Pace, Settings


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ("python server.py", "server"),
        ("/usr/bin/python3.11 -u app/server.py --port 1", "server"),
        ("python -m shop.server -v", "shop.server"),
        ("python -X dev -W ignore -Om shop.server", "shop.server"),
        ("python -mshop", "shop"),
        ("python -Wignore -Xdev server.py", "server"),
        ("python --check-hash-based-pycs never server.py", "server"),
        ("python -c pass server.py", "python"),
        ("python", "python"),
        ("python -m", "python"),
        ("python shop/__main__.py", "shop"),
        ("python shop.pyz", "shop"),
        ("gunicorn app:app", "gunicorn"),
        ("/opt/bin/serve.sh server.py", "serve.sh"),
        ("./server.py", "server"),
    ],
)
def test_the_service_is_named_after_what_runs(arguments: str, name: str) -> None:
    assert name_of(arguments.split()) == name


def test_local_defaults() -> None:
    env = instrumented({"OTEL_TRACES_EXPORTER": ""}, ["python", "server.py"])
    assert env == {
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_LOGS_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4317",
        "OTEL_METRIC_EXPORT_INTERVAL": "10000",
        "OTEL_PYTHON_OTELSTREAM_DEBUG_ADDR": "127.0.0.1:6060",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "128",
        "OTEL_BSP_MAX_QUEUE_SIZE": "1024",
        "OTEL_PYTHON_OTELSTREAM_PROFILES": "auto",
        "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "system_metrics",
        "OTEL_SERVICE_NAME": "server",
        "PYTHONPATH": _bootstrap.DIRECTORY,
        _bootstrap.CHILDREN: "",
    }


def test_what_the_user_has_set_stays() -> None:
    users = {
        "OTEL_TRACES_EXPORTER": "console",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_METRIC_EXPORT_INTERVAL": "1",
        "OTEL_PYTHON_OTELSTREAM_DEBUG_ADDR": "none",
        "OTEL_PYTHON_OTELSTREAM_PROFILES": "none",
        "OTEL_BSP_MAX_QUEUE_SIZE": "100",
        "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "requests",
        "OTEL_RESOURCE_ATTRIBUTES": "team=a,service.name=mine",
        "PYTHONPATH": "here",
    }
    env = instrumented(users, ["python", "server.py"], children=True)
    paths = f"{_bootstrap.DIRECTORY}{os.pathsep}here"
    assert env == {**users, "PYTHONPATH": paths, _bootstrap.CHILDREN: "1"}  # no endpoint: HTTP has its own default


def test_options_win_over_the_environment() -> None:
    users = {"OTEL_SERVICE_NAME": "theirs", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://theirs:1"}
    env = instrumented(users, ["python"], service_name="ours", endpoint="http://ours:2")
    assert (env["OTEL_SERVICE_NAME"], env["OTEL_EXPORTER_OTLP_ENDPOINT"]) == ("ours", "http://ours:2")


@pytest.mark.parametrize(
    ("arguments", "exit_code", "says"),
    [
        ([], 2, "There is no COMMAND to run. Name a program: otelstream run python server.py"),
        (["--", "no-such-program"], 127, "Cannot run 'no-such-program': there is no such program on PATH."),
        (["./no-such-program"], 127, "Cannot run './no-such-program': there is no such file."),
        (
            ["{file}", "-x"],
            126,
            "it is not an executable program. Name a program and its arguments: otelstream run python {file}",
        ),
        (["--childern", "python"], 2, "No such option"),
        (["--endpoint", "localhost:4317", "python"], 2, "Write --endpoint http://localhost:4317"),
    ],
)
def test_a_command_that_cannot_run(arguments: list[str], exit_code: int, says: str, tmp_path: Path) -> None:
    file = tmp_path / "server.py"
    file.touch(mode=0o644)
    result = CliRunner().invoke(main, ["run", *(argument.format(file=file) for argument in arguments)])
    assert result.exit_code == exit_code
    assert says.format(file=file) in result.output


def test_the_command_gets_its_own_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    executed = []
    monkeypatch.setattr(os, "execve", lambda *args: executed.append(args))
    assert (
        CliRunner().invoke(main, ["run", "--children", "env", "--children", "--help", "-x", "--", "y"]).exit_code == 0
    )
    ((program, arguments, environment),) = executed
    assert os.path.basename(program) == "env"
    assert arguments == ("env", "--children", "--help", "-x", "--", "y")
    assert environment[_bootstrap.CHILDREN] == "1"


@pytest.fixture
def sigterm() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("theirs", [signal.SIG_IGN, print])
def test_a_sigterm_that_is_ignored_or_handled_stays_so(sigterm: None, theirs: signal.Handlers) -> None:
    signal.signal(signal.SIGTERM, theirs)
    process_end.install()
    assert signal.getsignal(signal.SIGTERM) is theirs


def test_an_export_that_hangs_holds_up_the_end_for_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_end, "PATIENCE_S", 0.01)
    hanging, release = threading.Event(), threading.Event()

    def hang() -> None:
        hanging.set()
        release.wait()

    process_end.within_patience(hang)
    assert hanging.wait(20)
    release.set()


def test_an_older_sdk_is_given_an_instance_id_that_children_do_not_inherit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(resources, "ServiceInstanceIdResourceDetector", raising=False)
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "team=a")
    with start._instance_id():
        assert os.environ["OTEL_RESOURCE_ATTRIBUTES"].startswith("team=a,service.instance.id=")
    assert os.environ["OTEL_RESOURCE_ATTRIBUTES"] == "team=a"
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=mine")
    with start._instance_id():
        assert os.environ["OTEL_RESOURCE_ATTRIBUTES"] == "service.instance.id=mine"


def test_where_the_demo_exports_to() -> None:
    assert endpoint_of({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}) == "http://localhost:4317"
    assert endpoint_of({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:1"}) == "http://a:1"
    both = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:1", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://b:1"}
    assert endpoint_of(both) == "http://b:1"
    assert endpoint_of({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}) == "http://localhost:4318"


@pytest.mark.parametrize(
    ("endpoint", "port"),
    [
        ("http://localhost:4317", 4317),
        ("localhost:1", 1),
        ("http://127.0.0.1", 80),
        ("https://localhost:4317", None),
        ("http://10.0.0.1:4317", None),
        ("http://localhost:port", None),
    ],
)
def test_where_a_viewer_of_the_demo_could_listen(endpoint: str, port: int | None) -> None:
    assert local_port(endpoint) == port


def test_whether_anybody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert listens(f"http://127.0.0.1:{port}")
        assert listens(f"127.0.0.1:{port}")
    assert not listens(f"http://127.0.0.1:{port}")
    assert not listens("http://127.0.0.1:port")


def test_the_load_of_the_demo_adds_up() -> None:
    settings = Settings(streams=4, rate=100)
    assert Settings.from_json(settings.to_json()) == settings
    assert settings.short_rate + settings.streams / settings.message_interval_s == pytest.approx(100)
    assert Settings(streams=0, rate=100).short_rate == 100


def test_pace_spreads_messages_and_forgets_what_it_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    pace = Pace(10)
    assert pace.wait_for(5) == 0
    assert pace.wait_for(5) == pytest.approx(0.5)
    now += 100
    assert [pace.wait_for(5) for _ in range(4)] == pytest.approx([0, 0, 0, 0.5])


def test_sizes_for_people() -> None:
    assert [table.size(count) for count in (0, 1536, 5 * 1024 * 1024)] == ["0.0 KiB", "1.5 KiB", "5.0 MiB"]

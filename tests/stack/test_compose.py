"""``docker-compose.yml`` is accepted by Compose itself, and hardened in every service."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.stack.conftest import compose_program
from tests.stack.servers import COMPOSE


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    """The file as Compose understands it."""
    command = [*compose_program(), "--file", str(COMPOSE / "docker-compose.yml"), "config", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "no warning either"
    return dict(json.loads(done.stdout))


SERVICES = ("jaeger", "prometheus", "grafana")
IMAGES = ("jaegertracing/jaeger:2.20.0", "prom/prometheus:v3.13.3", "grafana/grafana:13.2.3")
each_service = pytest.mark.parametrize("name", SERVICES)


def test_three_services_with_exact_tags(config: dict[str, Any]) -> None:
    assert {name: service["image"] for name, service in config["services"].items()} == dict(
        zip(SERVICES, IMAGES, strict=True)
    )


@each_service
def test_a_service_is_hardened(config: dict[str, Any], name: str) -> None:
    service = config["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "privileged" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert int(service["user"].partition(":")[0]) > 0
    assert int(service["mem_limit"]) == int(service["memswap_limit"]) <= 2**30
    assert 0 < service["pids_limit"] <= 500
    assert service["logging"]["driver"] == "json-file"
    assert {"max-size", "max-file"} <= set(service["logging"]["options"])
    assert service["healthcheck"]["test"][0] == "CMD"
    assert "http://127.0.0.1:" in service["healthcheck"]["test"][-1], "localhost may be ::1, where nobody listens"
    assert service["restart"] == "unless-stopped"


@each_service
def test_a_service_publishes_on_this_machine_only(config: dict[str, Any], name: str) -> None:
    ports = config["services"][name]["ports"]
    assert ports
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}


@each_service
def test_a_service_reads_files_and_writes_only_to_its_volume(config: dict[str, Any], name: str) -> None:
    for volume in config["services"][name]["volumes"]:
        if volume["type"] == "bind":
            assert volume["read_only"] is True
            assert Path(volume["source"]).is_relative_to(COMPOSE)
            assert Path(volume["source"]).exists()
        else:
            assert volume["source"] in config["volumes"]
    assert "configs" not in config["services"][name], "inline configs fail on a read-only service"


def test_nothing_starts_before_what_it_needs_is_healthy(config: dict[str, Any]) -> None:
    needs = {name: config["services"][name].get("depends_on", {}) for name in SERVICES}
    assert {name: set(needed) for name, needed in needs.items()} == {
        "prometheus": set(),
        "jaeger": {"prometheus"},
        "grafana": {"prometheus", "jaeger"},
    }
    assert {item["condition"] for needed in needs.values() for item in needed.values()} == {"service_healthy"}


def test_go_collects_before_the_kernel_kills(config: dict[str, Any]) -> None:
    jaeger = config["services"]["jaeger"]
    limit = int(jaeger["environment"]["GOMEMLIMIT"].removesuffix("MiB")) * 2**20
    assert 0.8 * int(jaeger["mem_limit"]) < limit < 0.95 * int(jaeger["mem_limit"])


def test_grafana_lets_everybody_look_and_nobody_change(config: dict[str, Any]) -> None:
    environment = config["services"]["grafana"]["environment"]
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"

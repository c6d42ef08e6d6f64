"""The alert rules, by promtool: valid, tested both ways, and each one explained."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.stack.servers import COMPOSE, scaled

RULES = COMPOSE / "prometheus" / "rules" / "otelstream.yml"
TESTS = COMPOSE / "prometheus" / "tests" / "alerts.yml"


def promtool(binaries: Path, *arguments: str | Path) -> str:
    done = subprocess.run([binaries / "promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def alerts() -> list[str]:
    return re.findall(r"- alert: (\w+)", RULES.read_text())


def test_the_configuration_and_the_rules_are_valid(binaries: Path) -> None:
    said = promtool(binaries, "check", "config", "--lint=all", COMPOSE / "prometheus" / "prometheus.yml")
    assert "1 rule files found" in said


def test_each_alert_fires_when_it_must_and_is_silent_when_it_must_be(binaries: Path) -> None:
    promtool(binaries, "test", "rules", TESTS)


@pytest.mark.parametrize("alert", alerts())
def test_an_alert_has_a_series_that_fires_it_and_one_that_does_not(alert: str) -> None:
    groups = [group for group in TESTS.read_text().split("  - name: ") if f"alertname: {alert}" in group]
    assert groups
    for group in groups:
        fired = set(re.findall(r"exp_labels: \{([^}]*)\}", group))
        assert fired
        assert len(re.findall(r"series: '", group)) > len(fired) or "exp_alerts: []" in group


def test_an_alert_has_a_test_that_a_broken_rule_fails(binaries: Path, tmp_path: Path) -> None:
    """promtool fails when an alert is never raised, and when it always is."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "rules").mkdir()
    (tmp_path / "tests" / "alerts.yml").write_text(TESTS.read_text())
    rules = RULES.read_text()
    blocks = re.split(r"(?=      - alert: )", rules)
    for index, block in enumerate(blocks[1:], start=1):
        for broken in ("vector(0) > 1", "otelstream_streams_open or process_memory_usage_bytes or up or vector(1)"):
            mutant = re.sub(r"expr: .*?\n(?=        for:)", f"expr: {broken}\n", block, flags=re.DOTALL)
            assert mutant != block
            (tmp_path / "rules" / "otelstream.yml").write_text("".join([*blocks[:index], mutant, *blocks[index + 1 :]]))
            done = subprocess.run(
                [binaries / "promtool", "test", "rules", tmp_path / "tests" / "alerts.yml"],
                capture_output=True,
                check=False,
            )
            assert done.returncode != 0, f"{block.splitlines()[0]} may be {broken!r}"


@pytest.mark.parametrize("alert", alerts())
def test_an_alert_has_a_runbook(alert: str) -> None:
    readme = (COMPOSE / "README.md").read_text()
    runbook = readme.partition(f"### {alert}\n")[2].partition("\n##")[0]
    assert len(runbook.split()) > 40, "what it means, where to look, what to do"
    assert f"compose/README.md#{alert.lower()}" in RULES.read_text()


def test_windows_are_shortened_everywhere_for_a_test() -> None:
    short = scaled(RULES.read_text(), 30)
    assert not re.search(r"\d+m\b", re.sub(r"description: .*", "", short))
    assert "* 120 > 20 * 1024 * 1024" in short

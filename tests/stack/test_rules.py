"""The alert rules, by promtool: valid, tested both ways, and each one explained."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
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
def test_an_alert_has_series_that_fire_it_and_others(alert: str) -> None:
    groups = [group for group in TESTS.read_text().split("  - name: ") if f"alertname: {alert}" in group]
    fired = {labels for group in groups for labels in re.findall(r"exp_labels: \{([^}]*)\}", group)}
    assert fired
    assert len(fired) < sum(group.count("series: '") for group in groups) or "exp_alerts: []" in "".join(groups)


def weakened(rules: str) -> Iterator[tuple[str, str]]:
    """The rules with one condition of one alert left out, and which: a line of it, its threshold, or its `for`."""
    lines = rules.splitlines()
    for number, line in enumerate(lines):
        changed = list(lines)
        if line.startswith(("          and ", "          unless ")):
            lasts = 2 if "unless" in line else 1
            del changed[number : number + lasts]
        elif line.startswith("        for: "):
            changed[number] = "        for: 0s"
        elif re.match(r" +(expr: .*|\(.*) (>|<|>=|==) [\d *.]+\)?$", line):
            changed[number] = re.sub(r" (>|<|>=|==) [\d *.]+(\)?)$", r"\2", line)
        else:
            continue
        yield f"line {number + 1}: {line.strip()}", "\n".join(changed)


def test_every_condition_of_every_alert_is_tested(binaries: Path, tmp_path: Path) -> None:
    """Without any one of them, promtool sees an alert that fires when it must not."""
    for name in ("tests", "rules"):
        (tmp_path / name).mkdir()
    (tmp_path / "tests" / "alerts.yml").write_text(TESTS.read_text())
    untested, count = [], 0
    for what, rules in weakened(RULES.read_text()):
        (tmp_path / "rules" / "otelstream.yml").write_text(rules)
        command = [binaries / "promtool", "test", "rules", tmp_path / "tests" / "alerts.yml"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        count += 1
        if "FAILED" not in done.stdout + done.stderr or "parse error" in done.stdout + done.stderr:
            untested.append(what)
    assert count > 25
    assert untested == []


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

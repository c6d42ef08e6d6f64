"""The loop of ``otelstream top``: how often it looks. What it shows in a terminal is in the integration tests."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from otelstream.top import live
from otelstream.top.snapshot import Snapshot
from otelstream.top.table import Tables

SNAPSHOT = Snapshot("No leak seen.", "calm", [], [], [], 0)


class Time:
    """A clock that looking and sleeping move on; the fourth pause is cut short by Ctrl-C."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        if len(self.slept) == 4:
            raise KeyboardInterrupt


@pytest.mark.parametrize(("looking_takes", "pauses"), [(0.05, [1.0, 1.0, 1.0, 1.0]), (0.5, [1.0, 5.0, 5.0, 5.0])])
def test_it_looks_more_rarely_when_the_answer_costs_much(
    looking_takes: float, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    time, out = Time(), io.StringIO()
    monkeypatch.setattr(live, "time", time)
    answers: list[Snapshot | str] = [SNAPSHOT, "Nobody is there.", "Nobody is there."]

    def look() -> Snapshot | str:
        time.now += looking_takes
        return answers.pop(0)

    console = Console(file=out, force_terminal=True, width=80, height=20, color_system=None)
    with pytest.raises(KeyboardInterrupt):
        live.run(SNAPSHOT, look, lambda snapshot: Tables(snapshot, "age", 5, fit=True), 1.0, console)
    assert time.slept == pauses
    for away in (pauses[1] + looking_takes, pauses[1] + pauses[2] + 2 * looking_takes):
        assert f"Nobody is there. Trying again; this is how it was {away:.0f} s ago." in out.getvalue()
    assert out.getvalue().endswith("\x1b[?25h\x1b[?1049l")

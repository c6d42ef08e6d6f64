"""The README's Python is run as it stands, and its settings are the ones there are."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from otelstream import GrpcStreamInstrumentor
from otelstream.config import PREFIX, Config

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_its_python_runs() -> None:
    for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(compile(block, "README.md", "exec"), {})  # that it runs is the test
    GrpcStreamInstrumentor().uninstrument()


def test_its_settings_are_those_there_are() -> None:
    documented = dict(re.findall(rf"`{PREFIX}(\w+)` \| (\w+)", README))
    settings = {field.name.upper(): field.default for field in fields(Config)}
    assert {name: str(settings[name]).removesuffix(".0") for name in documented} == documented
    assert set(settings) - set(documented) == {"SPELLING", "EXCLUDED_SERVICES"}

"""What the report on a case of the zoo must say, and what is wrong with one that does not say it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otelstream.demo.v1 import ticks_pb2
from otelstream.findings import Kind, Severity

SERVICE = ticks_pb2.DESCRIPTOR.services_by_name["TickFeed"].full_name


@dataclass(frozen=True)
class Leak:
    """A finding that must be in the report."""

    kind: Kind
    method: str | None = None
    """Of the tick feed, without its service; None where the finding is about the process: any will do."""
    side: str | None = None
    name: str = ""
    """Part of the holder: what a person calls it."""
    mark: str = "the holder"
    """The holder's line ends with ``# <- `` and this. Where there are several, any of them will do."""
    also: frozenset[Kind] = frozenset()
    """Kinds under which the same cause may be found once more, on this method, whatever the side."""

    @property
    def full_method(self) -> str | None:
        """As reports have it."""
        return self.method and f"{SERVICE}/{self.method}"

    def lines(self, source: Path) -> list[str]:
        """The marked lines of ``source``, as ``file:line``; none where the leak has no line."""
        if self.method is None:
            return []
        code = source.read_text(encoding="utf-8").splitlines()
        marked = [number for number, line in enumerate(code, 1) if line.endswith(f"# <- {self.mark}")]
        assert marked, f"no line of {source} ends with '# <- {self.mark}'"
        return [f"{source.name}:{number}" for number in marked]

    def is_kind_of(self, finding: Mapping[str, Any]) -> bool:
        """The same thing, wherever it is held."""
        if self.method is None:
            return bool(finding["kind"] == self.kind.value)
        found = (finding["kind"], finding["method"], finding["side"])
        return found == (self.kind.value, self.full_method, self.side)

    def is_held_as_in(self, finding: Mapping[str, Any], source: Path) -> bool:
        """The holder is the one that is marked."""
        holder = finding["holder"] or ""
        lines = self.lines(source)
        return self.name in holder and (not lines or any(re.search(rf"{re.escape(at)}\b", holder) for at in lines))

    def explains(self, finding: Mapping[str, Any]) -> bool:
        """It is this, or the same cause once more."""
        again = finding["method"] == self.full_method and finding["kind"] in {kind.value for kind in self.also}
        return again or self.is_kind_of(finding)

    def show(self, source: Path) -> str:
        """For the table."""
        what = " ".join(filter(None, (self.kind.value, self.side, self.method)))
        numbers = " or ".join(line.partition(":")[2] for line in self.lines(source))
        return ": ".join(filter(None, (what, self.name, numbers and f"line {numbers}")))


def leaks_in(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The findings that say that something leaks."""
    return [finding for finding in report["findings"] if finding["severity"] != Severity.INFO.value]


def faults(report: Mapping[str, Any], expected: tuple[Leak, ...], source: Path) -> list[str]:
    """What is wrong with ``report``, a ``LeakReport.to_dict()``; nothing when the verdict is right."""
    found = leaks_in(report)
    wrong = [] if report["decided"] or expected else ["it is not decided"]
    for leak in expected:
        alike = [finding for finding in found if leak.is_kind_of(finding)]
        if not alike:
            wrong.append(f"missed: {leak.show(source)}")
        elif not any(leak.is_held_as_in(finding, source) for finding in alike):
            wrong.append(f"other holder than {leak.show(source)}: {[finding['holder'] for finding in alike]}")
    others = [finding for finding in found if not any(leak.explains(finding) for leak in expected)]
    return wrong + [f"false: {show(finding)}: {finding['evidence']}" for finding in others]


def show(finding: Mapping[str, Any]) -> str:
    """For the table: a finding as ``Leak.show`` has it."""
    method = finding["method"] and finding["method"].removeprefix(f"{SERVICE}/")
    what = " ".join(filter(None, (finding["kind"], finding["side"], method)))
    return ": ".join(filter(None, (what, finding["holder"])))

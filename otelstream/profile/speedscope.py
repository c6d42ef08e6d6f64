"""The file format of speedscope: https://www.speedscope.app/file-format-schema.json. Pure."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from otelstream._version import __version__
from otelstream.profile import words
from otelstream.profile.model import METHOD, Frame, Profile, Sample

_UNITS = {"bytes": "bytes", "nanoseconds": "nanoseconds"}
"""What speedscope has a name for, of pprof's units; anything else is ``none``."""


def render(profile: Profile, title: str) -> str:
    """A file of sampled profiles: one of everything, and one of each method, those with the most first.

    They have the number that is shown when none is asked for. Of a comparison there are two each, what grew and what
    shrank: speedscope knows nothing below 0.
    """
    frames: dict[Frame, int] = {}
    by_method: defaultdict[str, list[Sample]] = defaultdict(list)
    for sample in profile.samples:
        for frame in sample.stack:
            frames.setdefault(frame, len(frames))
        by_method[dict(sample.labels).get(METHOD, "")].append(sample)

    at, unit = profile.default, _UNITS.get(profile.types[profile.default].unit, "none")

    def made(name: str, samples: Iterable[Sample], sign: int) -> dict[str, Any]:
        shown = [(sample, sign * sample.values[at]) for sample in samples if sign * sample.values[at] > 0]
        return {
            "type": "sampled",
            "name": name,
            "unit": unit,
            "startValue": 0,
            "endValue": sum(value for _, value in shown),
            "samples": [[frames[frame] for frame in reversed(sample.stack)] for sample, _ in shown],
            "weights": [value for _, value in shown],
        }

    named = [(name or "no method", samples) for name, samples in by_method.items()]
    named.sort(key=lambda each: -sum(abs(sample.values[at]) for sample in each[1]))
    signs = ((1, ": grew"), (-1, ": shrank")) if words.is_comparison(profile) else ((1, ""),)
    file = {
        "$schema": "https://www.speedscope.app/file-format-schema.json",
        "exporter": f"otelstream {__version__}",
        "name": title,
        "activeProfileIndex": 0,
        "shared": {"frames": [_frame(frame) for frame in frames]},
        "profiles": [
            made(f"{name}{ending}", samples, sign)
            for name, samples in (("all methods", profile.samples), *named)
            for sign, ending in signs
        ],
    }
    return json.dumps(file, separators=(",", ":")) + "\n"


def _frame(frame: Frame) -> dict[str, Any]:
    known = {"name": frame.function, "file": frame.file, "line": frame.line}
    return {key: value for key, value in known.items() if value or key == "name"}

"""Folded stacks, one line each: what ``flamegraph.pl`` (github.com/brendangregg/FlameGraph) and others read. Pure."""

from __future__ import annotations

from collections import Counter

from otelstream.profile import words
from otelstream.profile.model import Profile


def render(profile: Profile) -> str:
    """``outermost;…;innermost 65536`` for each stack, with the number that is shown when none is asked for.

    Of a comparison each has two numbers, before and after, as ``difffolded.pl`` writes them, without what stayed.
    """
    # A semicolon would begin another frame.
    names = {frame: words.name(frame).replace(";", ":") for sample in profile.samples for frame in sample.stack}
    sums: Counter[str] = Counter()
    for sample in profile.samples:
        stack = ";".join(names[frame] for frame in reversed(sample.stack)) or words.NO_STACK
        sums[stack] += sample.values[profile.default]
    changed = words.is_comparison(profile)
    lines = (
        f"{stack} {max(0, -value)} {max(0, value)}\n" if changed else f"{stack} {value}\n"
        for stack, value in sorted(sums.items())
        if value
    )
    return "".join(lines)

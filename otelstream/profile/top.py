"""The lines with the most, as ``go tool pprof -top`` has them, and whose calls they are. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from otelstream import report
from otelstream.profile import words
from otelstream.profile.model import METHOD, SIDE, SPAN_ID, TRACE_ID, Frame, Profile

_MOST = 30
"""Rows of a table: what is not among them has less than any of them."""
_KEYS = {"method": (METHOD, SIDE), "stream": (METHOD, SIDE, TRACE_ID, SPAN_ID)}
_NO_STACK = (Frame(words.NO_STACK, "", 0),)


def render(profile: Profile, by: str | None = None) -> str:
    """``profile`` as text; ``by``: its second table is of each ``method`` (the default) or of each ``stream``."""
    lines = words.about(profile)
    for title, rows in tables(profile, by):
        lines += ["", title, *report.columns(rows)]
    return "\n".join(lines) + "\n"


def tables(profile: Profile, by: str | None = None) -> Iterator[tuple[str, list[list[str]]]]:
    """The title of each table and its rows, the header first. None where there is nothing to show."""
    if profile.samples:
        yield "Lines: flat is at the line itself, cum also in what it calls", _lines(profile)
        yield f"By {by or 'method'}", _calls(profile, _KEYS[by or "method"])


def _lines(profile: Profile) -> list[list[str]]:
    unit, signed = profile.types[profile.default].unit, words.is_comparison(profile)
    whole = _whole(profile)
    flat: Counter[Frame] = Counter()
    cum: Counter[Frame] = Counter()
    for sample in profile.samples:
        stack, value = sample.stack or _NO_STACK, sample.values[profile.default]
        flat[stack[0]] += value
        for frame in set(stack):  # once, however often it calls itself
            cum[frame] += value
    rows, added = [["flat", "flat%", "sum%", "cum", "cum%", "line"]], 0
    for frame in sorted(cum, key=lambda frame: (-abs(flat[frame]), -abs(cum[frame]), frame))[:_MOST]:
        own, all_ = flat[frame], cum[frame]
        added += own
        rows.append(
            [
                *(words.quantity(own, unit, signed=signed), words.share(own, whole), words.share(added, whole)),
                *(words.quantity(all_, unit, signed=signed), words.share(all_, whole), words.name(frame)),
            ]
        )
    return [*rows, *_rest(len(cum), 6)]


def _calls(profile: Profile, keys: tuple[str, ...]) -> list[list[str]]:
    signed, whole = words.is_comparison(profile), _whole(profile)
    order = [profile.default, *range(profile.default)]
    sums: dict[tuple[str, ...], list[int]] = {}
    for sample in profile.samples:
        labels = dict(sample.labels)
        values = sums.setdefault(tuple(labels.get(key, "") for key in keys), [0] * len(order))
        for place, index in enumerate(order):
            values[place] += sample.values[index]
    rows = [[*(report.clean(profile.types[index].type) for index in order), "share", *keys]]
    for names, values in sorted(sums.items(), key=lambda each: (-abs(each[1][0]), each[0]))[:_MOST]:
        written = [
            words.quantity(value, profile.types[index].unit, signed=signed)
            for index, value in zip(order, values, strict=True)
        ]
        rows.append([*written, words.share(values[0], whole), *(report.clean(name) or "none" for name in names)])
    return [*rows, *_rest(len(sums), len(rows[0]))]


def _whole(profile: Profile) -> int:
    """What 100 % is: of a comparison, all that changed."""
    return sum(abs(sample.values[profile.default]) for sample in profile.samples)


def _rest(rows: int, columns: int) -> list[list[str]]:
    """A last row that says how many there are not."""
    return [[*[""] * (columns - 1), f"and {rows - _MOST:,} more"]] if rows > _MOST else []

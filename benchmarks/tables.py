"""Results to a table, for the terminal or as Markdown for the README."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from benchmarks.rounds import Mode, Phase, Results
from benchmarks.spread import Spread, bootstrap, grouped
from benchmarks.variants import Variant

_KINDS = {"server_stream": "server-stream", "bidi": "bidi", "read_write": "bidi, `read`/`write`"}
_APIS = {"sync": "sync", "aio": "asyncio"}
_COMPARED = (Variant.OTELSTREAM, Variant.CONTRIB, Variant.CONTROL)
_RATED = (Variant.OTELSTREAM, Variant.CONTRIB)

Column = tuple[str, Variant, Variant, Callable[[Phase], float]]
"""A heading; whose value is compared, with whose, and which value."""


def cpu(phase: Phase) -> float:
    """µs of CPU per message."""
    return phase.cpu_us


def rate(phase: Phase) -> float:
    """Messages per second."""
    return 1e6 / phase.wall_us


def render(results: Results, variants: Sequence[Variant], *, markdown: bool) -> str:
    """The whole table; what a variant can't do is marked and explained below."""
    columns = [(f"{variant.value}: CPU", variant, Variant.BARE, cpu) for variant in variants if variant in _COMPARED]
    if Variant.EXCLUDED in variants:
        columns.insert(0, ("otelstream: CPU, in one process", Variant.OTELSTREAM, Variant.EXCLUDED, cpu))
    columns += [(f"{variant.value}: rate", variant, Variant.BARE, rate) for variant in variants if variant in _RATED]
    header = ["mode", "message", "bare: CPU µs", "bare: messages/s", *(name for name, *_ in columns)]
    rows = [_row(results, mode, columns) for mode in results.phases]
    return "\n".join([*lines(header, rows, markdown=markdown), *_failures(results)])


def _row(results: Results, mode: Mode, columns: Sequence[Column]) -> list[str]:
    bare = results.phases[mode].get(Variant.BARE, [])
    row = [_name(mode), f"{mode.size >> 10} KiB" if mode.size >= 1024 else f"{mode.size} B"]
    row += [f"{statistics.median(map(cpu, bare)):.1f}", f"{statistics.median(map(rate, bare)):,.0f}"]
    return row + [_cell(results, mode, variant, base, value) for _, variant, base, value in columns]


def _name(mode: Mode) -> str:
    return f"{_APIS[mode.api]} {_KINDS[mode.kind]}"


def _cell(results: Results, mode: Mode, variant: Variant, base: Variant, value: Callable[[Phase], float]) -> str:
    ratios = ratio(results, mode, variant, base, value)
    return "can't" if ratios is None else f"{ratios.median:.3f} [{ratios.low:.3f}, {ratios.high:.3f}]"


def ratio(
    results: Results, mode: Mode, variant: Variant, base: Variant, value: Callable[[Phase], float]
) -> Spread | None:
    """The ratio of ``value`` to that of ``base`` in the same round; None when the variant can't do it."""
    of_mode = results.phases[mode]
    if variant in results.failures[mode]:
        return None
    bases = {(phase.generation, phase.round): value(phase) for phase in of_mode[base]}
    ratios = ((phase.generation, value(phase) / bases[phase.generation, phase.round]) for phase in of_mode[variant])
    return bootstrap(grouped(ratios))


def lines(header: list[str], rows: list[list[str]], *, markdown: bool, names: int = 2) -> list[str]:
    """A table whose first columns are ``names``, all others numbers."""
    if markdown:
        rule = ["---"] * names + ["---:"] * (len(header) - names)
        return [f"| {' | '.join(cells)} |" for cells in (header, rule, *rows)]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    table = [header, *([cell.replace("`", "") for cell in row] for row in rows)]
    return ["  ".join(map(str.ljust, cells, widths)).rstrip() for cells in table]


def _failures(results: Results) -> list[str]:
    reasons: dict[tuple[str, str], list[str]] = {}
    for mode, failed in results.failures.items():
        for variant, reason in failed.items():
            reasons.setdefault((variant.value, _name(mode)), []).append(reason.rstrip("."))
    return ["" for _ in reasons][:1] + [
        f"{variant} can't do {mode}: the call fails with {' or '.join(dict.fromkeys(why))}."
        for (variant, mode), why in reasons.items()
    ]

"""How the demo is shown: a live table in a terminal, a line per process elsewhere, a summary in the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from rich.table import Table

from otelstream.demo.children import Child
from otelstream.demo.leaks import LEAKS
from otelstream.demo.report import Method
from otelstream.demo.settings import Settings

_MIB = 1024 * 1024


def size(count: float) -> str:
    """``count`` bytes for people."""
    if count < _MIB:
        return f"{count / 1024:.1f} KiB"
    return f"{count / _MIB:.1f} MiB"


def title(settings: Settings) -> str:
    """What is running, in one line."""
    api = "asyncio" if settings.aio else "threads"
    return f"{settings.streams} streams held open, {settings.rate:g} messages/s, {api}, leak: {settings.leak}"


def table(settings: Settings, elapsed_s: float, children: Sequence[Child]) -> Table:
    """The state of both processes, by method."""
    made = Table(title=f"{elapsed_s:.0f} s   {title(settings)}", title_justify="left")
    made.add_column("process")
    made.add_column("memory", justify="right")
    made.add_column("method")
    for column in ("open", "oldest", "ended", "messages", "bytes"):
        made.add_column(column, justify="right")
    for child in children:
        first = [child.role, f"{size(child.memory)} ({_grown(child)})"]
        for name, method in sorted(child.methods.items()):
            made.add_row(*first, name, *_cells(method))
            first = ["", ""]
        made.add_section()
    return made


def _cells(method: Method) -> tuple[str, ...]:
    return (
        f"{method.open}",
        f"{method.oldest:.0f} s" if method.open else "",
        f"{sum(method.ended.values()):,}",
        f"{method.messages:,}",
        size(method.bytes),
    )


def lines(elapsed_s: float, children: Sequence[Child]) -> Iterator[str]:
    """The state of both processes where there is no terminal."""
    for child in children:
        methods = child.methods.values()
        streams = sum(method.open for method in methods)
        oldest = max((method.oldest for method in methods), default=0)
        now = f"{streams} open, oldest {oldest:.0f} s"
        yield f"{elapsed_s:4.0f} s  {child.role}: {now}; {_totals(child)}; {_memory(child)}"


def summary(settings: Settings, elapsed_s: float, children: Sequence[Child]) -> Iterator[str]:
    """What happened, what was leaked, and where to look."""
    yield f"Ran for {elapsed_s:.0f} s: {title(settings)}"
    for child in children:
        outcomes: Counter[str] = Counter()
        for method in child.methods.values():
            outcomes.update(method.ended)
            outcomes["open"] += method.open
        ended = ", ".join(f"{count:,} {outcome}" for outcome, count in outcomes.most_common() if count)
        yield f"  {child.role}: {sum(outcomes.values()):,} calls opened: {ended or 'none'}; {_totals(child)}"
        memory = f"{size(child.memory_at_start)} at the start, {_memory(child)} at the end"
        yield f"  {' ' * len(child.role)}  memory {memory}"
        if child.verdict:
            yield f"  {' ' * len(child.role)}  verdict: {child.verdict}"
    leak = LEAKS[settings.leak]
    yield leak.what + (f" ({leak.code})" if leak.code else "")
    yield f"Where to look: {leak.look}"


def _totals(child: Child) -> str:
    methods = child.methods.values()
    messages, count = sum(method.messages for method in methods), sum(method.bytes for method in methods)
    return f"{messages:,} messages, {size(count)}"


def _memory(child: Child) -> str:
    return f"{size(child.memory)} ({_grown(child)})"


def _grown(child: Child) -> str:
    return f"{(child.memory - (child.memory_at_start or child.memory)) / _MIB:+.1f} MiB"

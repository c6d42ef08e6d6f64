"""Shows one snapshot after the other in a terminal, until Ctrl-C."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from rich.console import Console
from rich.live import Live

from otelstream.report import duration
from otelstream.top.snapshot import Snapshot
from otelstream.top.table import Tables

_AT_MOST_ONE_IN = 10
"""Part of the time that who is asked may spend on answers: with very many streams, they are asked more rarely."""

Show = Callable[[Snapshot], Tables]


def run(first: Snapshot, look: Callable[[], Snapshot | str], show: Show, interval: float, console: Console) -> None:
    """Show ``first``, then what ``look`` answers every ``interval`` s, until ``KeyboardInterrupt``, which it raises.

    While it answers a sentence that says why there is nothing, the last snapshot stays.
    """
    shown, shown_at, took = show(first), time.monotonic(), 0.0
    live = Live(console=console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
    try:
        live.start()
        while True:
            live.update(shown, refresh=True)
            time.sleep(max(interval, _AT_MOST_ONE_IN * took))
            started = time.monotonic()
            found = look()
            ended = time.monotonic()
            took = ended - started
            if isinstance(found, Snapshot):
                shown, shown_at = show(found), ended
            else:
                ago = duration(ended - shown_at)
                shown = replace(shown, trouble=f"{found} Trying again; this is how it was {ago} ago.")
    finally:
        live.stop()

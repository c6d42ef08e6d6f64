"""Runs the demo: starts the server and the client, shows them until the time is up, and sums up."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace

from rich.console import Console
from rich.live import Live

from otelstream.demo import table
from otelstream.demo.children import Child, DiedError, notes_of
from otelstream.demo.settings import Settings
from otelstream.demo.stop import CtrlC

_REFRESH_S = 1.0
_NOTE_EVERY_S = 60.0


def run(settings: Settings, duration_s: float, environments: Mapping[str, Mapping[str, str]], console: Console) -> int:
    """Run the demo for ``duration_s`` or until Ctrl-C; the exit status: 0, or 1 when a process died early.

    ``environments`` are those to start the ``server`` and the ``client`` in.
    """
    with ExitStack() as stack:
        children: list[Child] = []

        def start(role: str, settings: Settings) -> Child:
            child = Child(role, settings, environments[role])
            stack.callback(child.kill)
            children.append(child)
            child.wait_until_ready()
            return child

        started = time.monotonic()
        try:
            server = start("server", settings)
            start("client", replace(settings, port=server.port))
            started = time.monotonic()
            _show(settings, duration_s, children, console)
        except DiedError as died:
            console.print(str(died), style="red", markup=False, soft_wrap=True)
            return 1
        except KeyboardInterrupt:
            console.print("Stopped.")
        elapsed_s = time.monotonic() - started
        for child in reversed(children):
            child.end()
        for line in table.summary(settings, elapsed_s, children):
            console.print(line, markup=False, soft_wrap=True)
    return 0


def _show(settings: Settings, duration_s: float, children: list[Child], console: Console) -> None:
    started = time.monotonic()
    end = started + duration_s
    next_note = started
    ctrl_c = CtrlC()
    with ctrl_c.held_back(), ExitStack() as stack:
        live = stack.enter_context(Live(console=console, auto_refresh=False)) if console.is_terminal else None
        while True:
            now = time.monotonic()
            for child in children:
                child.check()
                child.look()
            for note in notes_of(children):
                if now >= next_note:
                    console.print(note, style="yellow", markup=False, soft_wrap=True)
                    next_note = now + _NOTE_EVERY_S
            if live is not None:
                live.update(table.table(settings, now - started, children), refresh=True)
            else:
                for line in table.lines(now - started, children):
                    console.print(line, markup=False, soft_wrap=True)
            if now >= end:
                return
            ctrl_c.pause(min(_REFRESH_S, end - now))

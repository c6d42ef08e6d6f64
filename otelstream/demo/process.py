"""One process of the demo: ``python -m otelstream.demo.process server|client SETTINGS``, under ``otelstream run``.

Runs the server or the client until its stdin ends, which it does, too, when the process that shows the demo is killed.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from typing import Any

from otelstream.demo import aio_client, aio_service, client, service
from otelstream.demo.report import Reporter
from otelstream.demo.settings import Settings


def main(role: str, settings: Settings) -> None:
    """Run ``role`` until stdin ends."""
    reporter = Reporter()
    reporter.start()
    stop = threading.Event()
    threading.Thread(target=_wait_for_end_of_stdin, args=(reporter, stop), daemon=True).start()
    try:
        if settings.aio:
            asyncio.run(_aio(role, settings, reporter, stop))
        elif role == "server":
            service.serve(settings, reporter.say_port, stop)
        else:
            client.run(settings, stop)
    finally:
        stop.set()


def _wait_for_end_of_stdin(reporter: Reporter, stop: threading.Event) -> None:
    # Not sys.stdin: a thread that waits in it holds a lock that Python wants when it ends.
    while os.read(0, 1024):
        pass
    try:
        reporter.say_verdict()  # before the streams are closed
    finally:
        stop.set()


async def _aio(role: str, settings: Settings, reporter: Reporter, stop: threading.Event) -> None:
    aio_stop = asyncio.Event()

    async def pass_on() -> None:
        await asyncio.to_thread(stop.wait)
        aio_stop.set()

    running: Any = (
        aio_service.serve(settings, reporter.say_port, aio_stop)
        if role == "server"
        else aio_client.run(settings, aio_stop)
    )
    passing = asyncio.create_task(pass_on())
    try:
        await running
    finally:
        stop.set()
        await passing


if __name__ == "__main__":
    main(sys.argv[1], Settings.from_json(sys.argv[2]))

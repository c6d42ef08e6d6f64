"""One process of a pair, server or client: ``python -m benchmarks.peer ROLE API VARIANT [PORT]``.

It is driven with lines of JSON: a command on stdin, one answer on stdout. One thread waits for the commands,
and does nothing while a phase is measured.

- ``{"do": "run", "service": …, "kind": …, "size": By, "messages": n, "calls": n}`` (client): one call after the other,
  each with that many messages; ``{"wall": s, "messages": n}``.
- ``{"do": "collect"}``: collect garbage, so that no call pays for what another one left behind; ``{}``.
- ``{"do": "cpu"}``: user and system time of this process so far, ``{"cpu": s}``.
- ``{"do": "spans"}``: how many spans were exported so far, ``{"spans": n}``.

A command that fails answers ``{"error": …}``.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from threading import Thread
from typing import Any

import grpc

from benchmarks import load, service
from benchmarks.variants import Discarding, Variant, install

Command = dict[str, Any]
Run = Callable[[Command], int]
More = Mapping[str, Callable[[], None]]
"""Commands by name that take nothing and answer ``{}``."""

_CALL_TIMEOUT_S = 120


def main() -> None:
    """Start, say ``{"port": …}``, answer commands until stdin ends."""
    role, api, variant, *port = sys.argv[1:]
    be_peer(api, install(Variant(variant)), int(port[0]) if role == "client" else None, {})


def be_peer(api: str, exporter: Discarding | None, port: int | None, more: More) -> None:
    """Be the client of the server at ``port``, or a server (None), that knows some commands ``more``."""
    if api == "sync":
        _main_sync(exporter, port, more)
    else:
        asyncio.run(_main_aio(exporter, port, more))


def _main_sync(exporter: Discarding | None, port: int | None, more: More) -> None:
    server, run = None, None
    if port is None:
        port, server = service.serve()
    else:
        channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        clients = {name: load.SyncLoad(channel, name) for name in (service.NAME, service.EXCLUDED_NAME)}

        def run(command: Command) -> int:
            return clients[command["service"]].run(command["kind"], command["size"], command["messages"])

    answer_commands({"port": port}, partial(_answer, exporter, run, more))
    if server is not None:
        server.stop(None).wait()


async def _main_aio(exporter: Discarding | None, port: int | None, more: More) -> None:
    loop, server, run = asyncio.get_running_loop(), None, None
    if port is None:
        port, server = await service.serve_aio()
    else:
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        clients = {name: load.AioLoad(channel, name) for name in (service.NAME, service.EXCLUDED_NAME)}

        def run(command: Command) -> int:  # on the commands' thread; the call itself is made on the loop
            call = clients[command["service"]].run(command["kind"], command["size"], command["messages"])
            return asyncio.run_coroutine_threadsafe(call, loop).result(_CALL_TIMEOUT_S)

    ended = asyncio.Event()

    def answer() -> None:
        answer_commands({"port": port}, partial(_answer, exporter, run, more))
        loop.call_soon_threadsafe(ended.set)

    Thread(target=answer).start()
    await ended.wait()
    if server is not None:
        await server.stop(None)


def answer_commands(hello: Command, answer: Callable[[Command], Command]) -> None:
    """Say ``hello``, then ``answer`` each command until stdin ends."""
    _say(hello)
    for line in sys.stdin:
        try:
            _say(answer(json.loads(line)))
        except Exception as error:  # noqa: BLE001  # whatever a variant can't do is told, and the benchmark goes on
            _say({"error": _first_line(error)})


def _answer(exporter: Discarding | None, run: Run | None, more: More, command: Command) -> Command:
    if command["do"] in more:
        more[command["do"]]()
        return {}
    if command["do"] == "cpu":
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {"cpu": usage.ru_utime + usage.ru_stime}
    if command["do"] == "spans":
        return {"spans": 0 if exporter is None else exporter.exported()}
    if command["do"] == "collect":
        gc.collect()
        return {}
    if run is None:
        raise ValueError("a server runs no load")
    started = time.perf_counter()
    messages = sum(run(command) for _ in range(command["calls"]))
    return {"wall": time.perf_counter() - started, "messages": messages}


def _say(answer: Command) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _first_line(error: Exception) -> str:
    details = getattr(error, "details", None)
    text = str(details() if callable(details) else error)
    return f"{type(error).__name__}: {text.splitlines()[0] if text else ''}"


if __name__ == "__main__":
    main()

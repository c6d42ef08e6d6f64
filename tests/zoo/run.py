"""Runs one case of the zoo: ``python -m tests.zoo.run CASE [--aio] [--no-heap-profile]`` prints the report as JSON.

With ``--evidence`` it prints instead, second by second, what a person would look at without otelstream's verdict.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import ctypes
import gc
import json
import os
import threading
import time
import traceback
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider

import otelstream
from otelstream.memory import process
from otelstream.memory.heap import PROFILER
from otelstream.runtime import GUARD
from tests.zoo import cases, serve

INTERVAL_S = 0.25
"""The time scale: a verdict asks for 12 samples, and for what takes minutes in production."""
TYPES = ("Order", "Tick", "Task", "_Context", "_ServicerContext", "_MultiThreadedRendezvous", "StreamStreamCall")
"""Counted as evidence."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.zoo.run")
    parser.add_argument("case", choices=[case.name for case in cases.CASES])
    parser.add_argument("--aio", action="store_true", help="its asyncio variant")
    parser.add_argument("--no-heap-profile", action="store_true", help="as it is where the extension is not built")
    parser.add_argument("--evidence", action="store_true", help="print what happens instead of the report")
    arguments = parser.parse_args()
    os.environ["OTEL_PYTHON_OTELSTREAM_INTERVAL"] = str(INTERVAL_S)
    if arguments.no_heap_profile:
        os.environ["OTEL_PYTHON_OTELSTREAM_HEAP_SAMPLE_BYTES"] = "0"
    try:
        wanted = cases.Run(cases.named(arguments.case), arguments.aio, heap=not arguments.no_heap_profile)
        say(run(wanted, arguments.evidence))
    except BaseException:  # noqa: BLE001  # what the case has left running would keep the process from ending
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def run(wanted: cases.Run, evidence_only: bool) -> str:
    """Instrument, serve the case, and ask while it is served."""
    # Providers that keep nothing: what grows is the case's own.
    tracer_provider, meter_provider = TracerProvider(shutdown_on_exit=False), MeterProvider(shutdown_on_exit=False)
    otelstream.GrpcStreamInstrumentor().instrument(tracer_provider=tracer_provider, meter_provider=meter_provider)
    if wanted.heap and not PROFILER.running:
        raise RuntimeError(f"there is no heap profile, so run it with --no-heap-profile. {PROFILER.missing}")
    if evidence_only:
        threading.Thread(target=watch, daemon=True).start()
    ask = last_evidence if evidence_only else report
    case = wanted.case
    if wanted.aio:
        return asyncio.new_event_loop().run_until_complete(serve.aio_run(case.module, case.seconds, ask))
    return serve.run(case.module, case.seconds, ask)


def report() -> str:
    """The leak report as JSON. A fault of otelstream's own is a failure of the case, too."""
    answer = json.dumps(otelstream.leak_report().to_dict())
    if GUARD.faults:
        raise RuntimeError(f"faults of otelstream's own: {GUARD.faults}")
    return answer


def watch() -> None:
    """Say the evidence every second."""
    while True:
        say(json.dumps(evidence()))
        time.sleep(1)


def evidence() -> dict[str, Any]:
    """What there is now."""
    streams = [f"{stream.method.split('/')[1]} {stream.side}" for stream in otelstream.open_streams()]
    types = collections.Counter(type(item).__name__ for item in gc.get_objects())
    return {
        "rss_mib": round((process.rss() or 0) / serve.MIB, 1),
        "open": collections.Counter(streams),
        "threads": threading.active_count(),
        **{name: types[name] for name in TYPES if types[name]},
    }


def last_evidence() -> str:
    """What there is in the end, and what of it is left once all that can be freed is."""
    before = evidence()
    gc.collect()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)
    return json.dumps({"at the end": before, "after gc.collect() and malloc_trim(0)": evidence()})


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201  # that is how it talks to whoever started it


if __name__ == "__main__":
    main()

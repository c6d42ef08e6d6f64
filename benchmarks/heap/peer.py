"""One process that a profiler is started and stopped in: ``python -m benchmarks.heap.peer PROFILER sync|aio|loop``.

``sync`` and ``aio`` are the server of ``benchmarks.peer``, instrumented with otelstream; ``loop`` does nothing but
allocate and free. Driven as described there, with these commands more:

- ``{"do": "start"}``, ``{"do": "stop"}``: the profiler; ``{}``.
- ``{"do": "churn", "steps": n}`` (``loop``): ``{"cpu": s}``, of the thread that allocates.
"""

from __future__ import annotations

import gc
import os
import sys

from benchmarks import peer
from benchmarks.heap.churn import Churn
from benchmarks.heap.profilers import Profiler
from benchmarks.variants import Variant, install


def main() -> None:
    """Start, answer commands until stdin ends."""
    profiler, work = sys.argv[1:]
    switch = Profiler(profiler).make()
    more = {"start": switch.start, "stop": switch.stop}
    if work == "loop":
        _loop(more)
    else:
        os.environ["OTEL_PYTHON_OTELSTREAM_HEAP_SAMPLE_BYTES"] = "0"  # until it is started
        peer.be_peer(work, install(Variant.OTELSTREAM), None, more)


def _loop(more: peer.More) -> None:
    churn = Churn()

    def answer(command: peer.Command) -> peer.Command:
        if command["do"] in more:
            more[command["do"]]()
            return {}
        churn.run(command["steps"] // 10)
        gc.collect()
        return {"cpu": churn.run(command["steps"])}

    peer.answer_commands({}, answer)


if __name__ == "__main__":
    main()

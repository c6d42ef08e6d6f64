"""How a process under ``otelstream run`` ends without losing what it knows, where ``atexit`` does not help.

SIGTERM: the open streams are exported, then the process dies of the signal as it would have. A library installs no
signal handler by itself; ``run`` does. An application that installs its own replaces this one and keeps full control:
its normal exit exports. One that hands on to the handler it found asks for what would have happened without it: the
end. Python runs handlers between two bytecodes of the main thread: a signal waits while that thread is inside one long
call of C code.

Forked workers of ``multiprocessing``: they end by ``os._exit``, which skips what their parent registered at ``atexit``.
"""

from __future__ import annotations

import _thread
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import util
from typing import Any

from opentelemetry import _logs, metrics, trace

from otelstream import runtime

PATIENCE_S = 5.0
"""Longest time that the export may hold up the end. Docker kills after 10 s, Kubernetes after 30 s."""


def install() -> None:
    """Export at SIGTERM, unless that is handled or ignored already, and at the end of a forked worker."""
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _on_sigterm)
    util.register_after_fork(install, _in_worker)


def _in_worker(_registered: Any) -> None:
    util.Finalize(None, within_patience, args=(report_and_flush,), exitpriority=-100)  # after the application's own


def _on_sigterm(_signal: int, _frame: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second SIGTERM does not wait
    try:
        within_patience(report_and_flush)
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
    # Still here: this is process 1 of a container, which the kernel keeps from dying of a SIGTERM it does not handle.
    signal.signal(signal.SIGTERM, _on_sigterm)


def within_patience(work: Callable[[], None]) -> None:
    """Run ``work``, but wait for at most ``PATIENCE_S``.

    A signal handler interrupts the main thread, which may hold the very locks that ``work`` takes, those of
    ``threading`` itself included: hence another thread, and a raw one.
    """
    done = _thread.allocate_lock()
    done.acquire()

    def run() -> None:
        try:
            work()
        finally:
            done.release()

    _thread.start_new_thread(run, ())
    done.acquire(timeout=PATIENCE_S)


def report_and_flush() -> None:
    """End the open calls as ``open_at_exit`` and export all there is. Takes ``PATIENCE_S``, or a little more."""
    deadline = time.monotonic() + PATIENCE_S
    runtime.end_open_calls()
    for provider in (trace.get_tracer_provider(), metrics.get_meter_provider(), _logs.get_logger_provider()):
        flush = getattr(provider, "force_flush", None)  # only the SDK's have it
        if flush is not None:
            with suppress(Exception):  # what fails has been logged by the exporter
                flush(timeout_millis=max(1, int((deadline - time.monotonic()) * 1000)))

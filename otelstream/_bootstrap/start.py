"""Starts OpenTelemetry and otelstream in this process, as ``opentelemetry-instrument`` does."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

from opentelemetry.sdk import resources

from otelstream._bootstrap import CHILDREN, export_log, process_end

_RESOURCE = "OTEL_RESOURCE_ATTRIBUTES"


def start(directory: str) -> None:
    """Instrument this process. ``directory`` is the entry on PYTHONPATH that leads here.

    It is off PYTHONPATH while the instrumentations load, so that what they start does not start them again, and stays
    off unless child processes are to be instrumented, too.
    """
    with_us = os.environ.get("PYTHONPATH", "")
    without_us = os.pathsep.join(path for path in with_us.split(os.pathsep) if path != directory)
    os.environ["PYTHONPATH"] = without_us  # maybe empty, not absent: OpenTelemetry 0.48b0 reads it unasked
    if not _is_helper():
        with _instance_id():
            # Its sitecustomize is the one name that starts all versions of it.
            import_module("opentelemetry.instrumentation.auto_instrumentation.sitecustomize")
        process_end.install()
        export_log.install()
    if os.environ.get(CHILDREN):
        os.environ["PYTHONPATH"] = with_us
    else:
        os.environ.pop(CHILDREN, None)
        if not without_us:
            del os.environ["PYTHONPATH"]


def _is_helper() -> bool:
    """True in the process that only cleans up after ``multiprocessing``: it has nothing to say, for ever."""
    return any("multiprocessing.resource_tracker" in argument for argument in sys.orig_argv[1:])


@contextmanager
def _instance_id() -> Iterator[None]:
    """Have the SDK give this process a ``service.instance.id`` of its own where it does not by itself.

    Without one, the processes of a service overwrite each other's metrics. Newer SDKs make one per process, and a new
    one after a fork; with an older one, forked processes share their parent's. A user's own id stays.
    """
    attributes = os.environ.get(_RESOURCE)
    if hasattr(resources, "ServiceInstanceIdResourceDetector") or "service.instance.id=" in (attributes or ""):
        yield
        return
    # In the environment only while the SDK reads it: children are not to inherit it.
    os.environ[_RESOURCE] = ",".join(filter(None, [attributes, f"service.instance.id={uuid.uuid4()}"]))
    try:
        yield
    finally:
        if attributes is None:
            del os.environ[_RESOURCE]
        else:
            os.environ[_RESOURCE] = attributes

"""The heap profiler's C extension, where it was built and runs; README.md beside this file tells how it works."""

from __future__ import annotations

import sys
import sysconfig
from importlib import import_module
from typing import Any


def load() -> tuple[Any | None, str | None]:
    """(the extension, None), or (None, one sentence that says why there is none)."""
    if sys.implementation.name != "cpython":
        return None, f"It is for CPython, and this is {sys.implementation.name}."
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return None, "It needs the GIL, which this Python is built without."
    try:
        return import_module("otelstream._heap.native"), None
    except ModuleNotFoundError:
        return None, "It was not built: install otelstream again where there is a C compiler and Python's headers."
    except ImportError as error:
        return None, f"It can't be loaded: {error}."


native, missing = load()

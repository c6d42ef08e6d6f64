"""Instruments a Python process under ``otelstream run``, before the application starts.

Python imports ``sitecustomize`` by itself, from the first directory of PYTHONPATH that has one: ``run`` puts this one
first. The application finds sys.path, PYTHONPATH and the ``sitecustomize`` it would have had as they are without us.
"""

import os
import sys
from importlib import import_module

_HERE = os.path.dirname(os.path.abspath(__file__))


def _instrument() -> None:
    try:
        start = import_module("otelstream._bootstrap.start")
    except ImportError as error:
        print(  # noqa: T201  # there is no logging yet
            f"otelstream run: {sys.executable} is not instrumented, it cannot import otelstream ({error}). "
            f"Install otelstream into that Python's environment.",
            file=sys.stderr,
        )
        return
    start.start(_HERE)


sys.path[:] = [path for path in sys.path if os.path.abspath(path) != _HERE]
del sys.modules["sitecustomize"]
try:
    import_module("sitecustomize")
finally:  # what theirs raises, and that there is none, Python takes as it does without us
    _instrument()

"""What ``otelstream run`` puts into the processes it starts. See ``sitecustomize.py``."""

from os.path import abspath, dirname

DIRECTORY = dirname(abspath(__file__))
"""Goes first on PYTHONPATH; holds ``sitecustomize.py``, which Python runs before the application."""

CHILDREN = "_OTELSTREAM_RUN_CHILDREN"
"""Environment variable: not empty when started Python processes are to be instrumented, too."""

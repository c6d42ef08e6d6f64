"""``python -m otelstream``: the same as the command ``otelstream``."""

from otelstream.cli import main

main(prog_name="otelstream")

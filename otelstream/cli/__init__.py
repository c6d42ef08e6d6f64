"""The command ``otelstream``: one verb, one file."""

import click

from otelstream._version import __version__
from otelstream.cli import cpu, demo, heap, leaks, run, stack, stress, top, view

_VERBS = (run, demo, view, top, leaks, heap, cpu, stress, stack)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, package_name="otelstream")
def main() -> None:
    """See every open gRPC stream, and the memory it holds, through OpenTelemetry."""


for _verb in _VERBS:
    main.add_command(_verb.command)

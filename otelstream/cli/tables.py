"""Tables in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


def table(title: str, rows: Sequence[Sequence[str]]) -> Table:
    """``rows``, the first of them the header, with a title; numbers to the right, and names are only names."""
    from rich.table import Table  # noqa: PLC0415  # `otelstream run` is not to wait for it
    from rich.text import Text  # noqa: PLC0415

    from otelstream.report import is_number  # noqa: PLC0415

    made = Table(title=Text(title), title_justify="left")
    for index, name in enumerate(rows[0]):
        right = is_number(rows, index)
        made.add_column(Text(name), justify="right" if right else "left", no_wrap=right, overflow="fold")
    for row in rows[1:]:
        made.add_row(*map(Text, row))
    return made

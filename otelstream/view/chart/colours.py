"""What each colour says, in the light and on a dark page."""

from __future__ import annotations

from typing import NamedTuple

MEMORY = {
    "python": "#4e79a7",
    "protobuf": "#59a5a1",
    "native": "#d98032",
    "allocator_free": "#a18cc9",
    "other": "#9aa3ab",
}
"""By ``otelstream.memory.kind``, in the order in which they are stacked."""
PROCESSES = ("#1f9e89", "#b07aa1", "#c9a227", "#9c755f", "#59a14f", "#d37295", "#6b8fb3")
"""Resident memory of the processes beside the one whose parts are shown."""
LIMIT = "#d64545"
OPEN, SILENT = "open", "silent"
STREAMS = {
    OPEN: "#2f7de1",
    "ok": "#3a9d5d",
    "cancelled": "#b8901f",
    "deadline_exceeded": "#e07b00",
    "error": "#d64545",
    "abandoned": "#9b59b6",
    "open_at_exit": "#5b7083",
    SILENT: "#8a8f98",
}
"""By outcome; by state for what has none."""
AGGREGATED = "#5a6bbf"


class Theme(NamedTuple):
    """What differs between light and dark."""

    text: str
    quiet: str
    """Axes and grid lines."""
    background: str
    resident: str
    """The line of the resident memory."""


LIGHT = Theme(text="#22272e", quiet="#d5d9de", background="#ffffff", resident="#22272e")
DARK = Theme(text="#d7dce2", quiet="#3b424b", background="#1b1f24", resident="#f0f3f6")

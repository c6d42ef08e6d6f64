"""The last line of the page."""

from __future__ import annotations

from datetime import tzinfo

from otelstream.view.model import Dropped, Overview
from otelstream.view.page import words


def foot(overview: Overview, zone: tzinfo | None = None) -> str:
    """What the capture holds, and what it does not."""
    parts = [f"{overview.streams:,} streams, {overview.windows:,} windows, {words.size(overview.size)} kept."]
    parts += [_fault(dropped, zone) for dropped in overview.dropped if dropped.is_fault]
    others = [f"{dropped.count:,} {dropped.reason}" for dropped in overview.dropped if not dropped.is_fault]
    if others:
        parts.append(f"Not looked at: {', '.join(others)}.")
    return " ".join(parts)


def _fault(dropped: Dropped, zone: tzinfo | None) -> str:
    example = f": {dropped.example}" if dropped.example else ""
    return f"{dropped.count:,} {dropped.reason} (the last at {words.clock(dropped.last, zone)}{example})."

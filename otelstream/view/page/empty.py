"""What the page says while nothing has come."""

from __future__ import annotations

from collections.abc import Sequence

from nicegui import ui


def build(lines: Sequence[str], where: str, *, is_live: bool) -> ui.element:
    """``lines`` to copy, and ``where`` it listens. Unless ``is_live``, nothing ever will come."""
    with ui.element("section").classes("card empty").props('data-testid="empty"') as made:
        if not is_live:
            ui.html("<h2>This capture is empty</h2>", sanitize=False)
            ui.label("To fill one: otelstream view --db FILE").classes("command")
            return made
        ui.html("<h2>Nothing has come yet</h2>", sanitize=False)
        ui.label("Start a service with its gRPC streams recorded; not one line of it changes:")
        with ui.element("div").classes("bar"):
            ui.label("\n".join(lines)).classes("command grow").props('data-testid="commands"')
            ui.button(icon="content_copy", on_click=lambda: ui.clipboard.write("\n".join(lines))).props(
                'flat round aria-label="Copy both lines"'
            )
        ui.label(where).classes("quiet")
    return made

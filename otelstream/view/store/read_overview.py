"""What a capture holds."""

from __future__ import annotations

from otelstream.view.intake import Reason
from otelstream.view.model import Dropped, Overview
from otelstream.view.store.read_scope import S, Scope


def overview(scope: Scope) -> Overview:
    """All of it, whatever is chosen."""
    execute = scope.connection.execute
    processes = list(scope.processes.values())
    pages, free, page_size = (
        execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return Overview(
        processes=processes,
        first=min((process.first for process in processes), default=None),
        last=max((process.last for process in processes), default=None),
        streams=execute("SELECT COUNT(*) FROM stream").fetchone()[0],
        windows=execute("SELECT COUNT(*) FROM window").fetchone()[0],
        size=(pages - free) * page_size,
        dropped=_dropped(scope),
    )


def _dropped(scope: Scope) -> list[Dropped]:
    """Faults first, the most first."""
    known = {reason.name: reason for reason in Reason}
    found = []
    for name, count, last_ns, example in scope.connection.execute(
        "SELECT reason, count, last_ns, example FROM dropped WHERE count > 0"
    ):
        reason = known.get(name)  # None: a newer version's
        words, is_fault = (reason.value, reason.is_fault) if reason else (name.lower().replace("_", " "), True)
        found.append(Dropped(words, count, last_ns / S, example, is_fault))
    return sorted(found, key=lambda each: (not each.is_fault, -each.count))

"""Containers that the garbage collector leaves out: dicts and tuples of nothing but bytes, strings and numbers.

It cannot say who refers to them or what they hold, but what holds them shows them: so a message that is raw bytes is
looked for in all that its objects refer to, some 400 ms per million objects, in parts.
"""

from __future__ import annotations

import gc
from types import ModuleType
from typing import Any

from otelstream.memory.holding import frames

_PART = 50_000
"""Objects at a time."""
_DEPTH = 3
"""Of dicts and tuples in each other."""


def holding(ids: set[int], start: int) -> tuple[list[Any], int | None]:
    """Those that hold one of ``ids``, of the objects from the ``start``-th on; and where to go on, None at the end."""
    objects = gc.get_objects()
    # A module knows nothing that its namespace does not, and must not be asked: see peek.contents.
    part = [item for item in objects[start : start + _PART] if type(item) is not ModuleType]
    follows = start + _PART if start + _PART < len(objects) else None
    del objects
    found: dict[int, Any] = {}
    seen: set[int] = set()
    layer = _untracked(gc.get_referents(*part), seen)
    if start == 0:
        layer += _untracked(frames.values_of_running(), seen)
    for _ in range(_DEPTH):
        for item in layer:
            held = item.values() if type(item) is dict else item
            if not ids.isdisjoint(map(id, held)):
                found[id(item)] = item
        layer = _untracked(gc.get_referents(*layer), seen)
    return list(found.values()), follows


def _untracked(items: list[Any], seen: set[int]) -> list[Any]:
    kinds = (dict, tuple)
    found = []
    for item in items:
        if type(item) in kinds and id(item) not in seen and not gc.is_tracked(item):
            seen.add(id(item))
            found.append(item)
    return found

"""Objects that are held weakly and may be added on one thread while another looks through them."""

from __future__ import annotations

import weakref
from typing import Generic, TypeVar

_T = TypeVar("_T")


class WeakBag(Generic[_T]):
    """Like ``weakref.WeakSet``, by identity; that one raises when it changes while it is copied."""

    def __init__(self) -> None:
        self._references: dict[int, weakref.ref[_T]] = {}

    def add(self, item: _T) -> None:
        """Hold ``item`` for as long as somebody else does."""
        key, references = id(item), self._references
        references[key] = weakref.ref(item, lambda _reference: references.pop(key, None))

    def all(self) -> list[_T]:
        """What is alive."""
        items = (reference() for reference in list(self._references.values()))  # one step of C code: atomic
        return [item for item in items if item is not None]

    def clear(self) -> None:
        """Hold nothing."""
        self._references = {}

    def __contains__(self, item: object) -> bool:
        reference = self._references.get(id(item))
        return reference is not None and reference() is item

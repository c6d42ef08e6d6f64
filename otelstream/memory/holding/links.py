"""What the search for holders is made of: objects, and how one holds another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from otelstream.memory.holding import peek, places


class Rank(IntEnum):
    """How good a name is as the answer to "who holds it?"; the best first."""

    MANY = 0
    """Below it is a container of many."""
    SOME = 1
    """A container of a few, or a chain of linked objects."""
    REGISTERED = 2
    """What calls something later: an event loop, a finalizer; a context variable."""
    ROOT = 3
    """A variable: of a module, a class, a function."""
    ATTRIBUTE = 4
    """An attribute of one instance: it may be a wrapper that each message has."""
    UNNAMED = 5
    """What a function that waits is about to use: mostly a container with a name of its own, for a moment."""
    FOREIGN_MANY = 6
    """Python's own or an installed package's."""
    FOREIGN = 7
    NONE = 8


@dataclass(frozen=True, slots=True)
class Link:
    """One object holds another."""

    label: str = ""
    """For the path; empty for what only leads on."""
    name: str = ""
    """With file and line; empty when this is no name."""
    rank: Rank = Rank.NONE
    """As long as nothing below it says more."""
    size: int = 0
    """Elements of a container that can grow; else 0."""
    foreign: bool = False
    """Not of the user's code."""
    is_attribute: bool = False
    is_last: bool = False
    """Nothing above it is worth a look."""
    bounded: bool = False
    """A container that forgets, or takes no more, beyond a number of elements of its own."""


class Node:
    """An object on a way up from a message."""

    __slots__ = ("children", "is_ours", "is_queue", "item", "links", "word")

    def __init__(self, item: Any) -> None:
        kind = type(item)
        self.item = item
        """None when the search is over."""
        self.children: list[Node] = []
        """What it holds."""
        self.links: list[tuple[Node, Link]] = []
        """What holds it, and how."""
        self.is_ours = False
        """Something of otelstream holds it."""
        self.word = peek.type_name(kind)
        self.is_queue = not peek.is_container(kind) and any(peek.module_of(base) in _QUEUES for base in peek.mro(kind))


class Level:
    """What is looked up again and again within one level of a search, and forgotten with it: it holds classes."""

    def __init__(self) -> None:
        self.namespaces = peek.module_namespaces()
        self._mentioned: dict[int, list[str]] = {}
        self._attributes: dict[tuple[int, str], tuple[type, str]] = {}

    def mentioned(self, kind: type) -> list[str]:
        """``peek.attributes_mentioned``."""
        found = self._mentioned.get(id(kind))
        if found is None:
            found = self._mentioned[id(kind)] = peek.attributes_mentioned(kind)
        return found

    def attribute_at(self, kind: type, name: str) -> tuple[type, str]:
        """``places.attribute_at``."""
        key = id(kind), name
        if key not in self._attributes:
            self._attributes[key] = places.attribute_at(kind, name)
        return self._attributes[key]


Found = Iterator[tuple[Node, Link]]
"""What is held, and how. It is not always the child: the dict of an instance stands for what is in it."""

_LARGEST_BOUND = 10_000
_QUEUES = frozenset({"queue", "_queue", "asyncio.queues", "collections", "collections.abc"})


def plain(name: str) -> str:
    """For a path."""
    return name.replace("`", "")


def is_bound(most: object) -> bool:
    """``maxlen`` or ``maxsize`` that is one: of a million messages the memory is full before they are."""
    return type(most) is int and 0 < most <= _LARGEST_BOUND


def variable(
    text: str, place: str, foreign: bool, rank: Rank = Rank.ROOT, size: int = 0, *, bounded: bool = False
) -> Link:
    """A name above which there is nothing to look for."""
    return Link(plain(text), text + place, rank, size, foreign, is_last=True, bounded=bounded)


def local(name: str, place: str, foreign: bool) -> Link:
    """A local variable of a function that runs or waits, or what it has without a name."""
    if name:
        return variable(f"local `{name}` of {place}", "", foreign)
    return variable(f"a value in {place}", "", foreign, Rank.UNNAMED)

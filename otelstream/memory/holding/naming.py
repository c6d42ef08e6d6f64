"""From the ways up that were found to the one name that says most."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from otelstream.memory.holding.links import Link, Node, Rank

_MANY = 16
"""A container this large is where messages gather; a smaller one may be a part of what comes with each message."""
_SOME = 2
_CHAIN = 3
"""An attribute that leads to the same attribute, so many times in a row, is a linked list."""
_ASIDE = 8
"""A list of handlers, say, stands between a handler's buffer and what it is named after."""


class Name(NamedTuple):
    """The best name of what holds a message."""

    rank: Rank
    distance: int
    """Objects between it and the message."""
    text: str
    path: tuple[str, ...]
    """From the name down to the message."""
    bounded: bool
    """A container on the way takes only so many."""


class _Way(NamedTuple):
    node: Node
    trail: tuple[tuple[Node, Link], ...]
    """What is held and how, from the message up."""
    size: int
    """Of the largest container on it."""
    repeats: int
    """How often the last attribute comes in a row."""


def best_name(leaf: Node) -> tuple[Name | None, set[Node]]:
    """The name, and everything that is on a way up from ``leaf``."""
    best: Name | None = None
    seen = {leaf}
    ways = deque([_Way(leaf, (), 0, 0)])
    while ways:
        way = ways.popleft()
        for parent, link in list(way.node.links):
            longer = _longer(way, parent, link)
            rank = _rank(longer, link)
            is_better = link.name and (best is None or rank < best.rank)
            if is_better and not (link.foreign and _is_only_ours(parent)):
                path = tuple(step.label for _, step in reversed(longer.trail) if step.label)
                bounded = any(step.bounded for _, step in longer.trail)
                best = Name(rank, len(longer.trail), _text(longer.trail), path, bounded)
            if parent not in seen:
                seen.add(parent)
                ways.append(longer)
    return best, seen


def _longer(way: _Way, parent: Node, link: Link) -> _Way:
    repeats = 0
    if link.is_attribute:
        again = bool(way.trail) and way.trail[-1][1] == link
        repeats = way.repeats + 1 if again else 1
    return _Way(parent, (*way.trail, (way.node, link)), max(way.size, link.size), max(repeats, way.repeats))


def _rank(way: _Way, link: Link) -> Rank:
    if link.foreign:
        return Rank.FOREIGN_MANY if way.size >= _SOME else Rank.FOREIGN
    if link.rank is Rank.UNNAMED:
        return Rank.UNNAMED
    if way.size >= _MANY:
        return Rank.MANY
    if way.size >= _SOME or way.repeats >= _CHAIN:
        return Rank.SOME
    return link.rank


def _is_only_ours(node: Node) -> bool:
    """Nothing holds it in the end but otelstream: an iterator, say, that one of its functions uses."""
    above = [node]
    for one in above:
        if any(link.is_last for _, link in one.links) or not (one.links or one.is_ours):
            return False
        above += [parent for parent, _ in one.links if parent not in above]
    return any(one.is_ours for one in above)


def _text(trail: tuple[tuple[Node, Link], ...]) -> str:
    """With what the name stands for in front: a list, a queue, another's attribute."""
    held, link = trail[-1]
    joint = " " if link.is_attribute else " held by "
    if held.is_queue:
        return f"{held.word}{joint}{link.name}"
    below = next((step for _, step in reversed(trail[:-1]) if not 0 < step.size <= _ASIDE), None)
    if below is not None and below.foreign and below.is_attribute:
        return f"{below.label} of {link.name}"
    if link.is_attribute and len(trail) > 1:
        return f"{held.word} {link.name}"
    return link.name

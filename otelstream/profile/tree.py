"""The stacks of a profile as one tree, from the outermost frame inwards, with a tower for each method. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from otelstream.profile.model import METHOD, Frame, Profile


@dataclass(slots=True, eq=False)
class Node:
    """A frame, called the way that leads to it."""

    frame: Frame
    """A method's is its name, as function."""
    depth: int
    """0 of a method."""
    values: list[int]
    """One for each of the profile's types, what it called included."""
    own: list[int]
    """What is at this frame itself, without what it called."""
    changes: list[int]
    """``values`` without their signs: how much grew or shrank. Where nothing is below 0, it is the same."""
    children: dict[Frame, Node] = field(default_factory=dict)

    def add(self, values: Sequence[int], *, is_innermost: bool) -> None:
        """One more sample."""
        for index, value in enumerate(values):
            self.values[index] += value
            self.changes[index] += abs(value)
            if is_innermost:
                self.own[index] += value


def build(profile: Profile) -> list[Node]:
    """The methods of ``profile``, and all that they call below them. Calls of no method are under an empty name."""
    methods: dict[Frame, Node] = {}
    size = len(profile.types)
    for sample in profile.samples:
        siblings = methods
        method = Frame(dict(sample.labels).get(METHOD, ""), "", 0)
        below = sample.stack[:-1] if sample.stack[-1:] == (method,) else sample.stack  # it was grouped already
        for depth, frame in enumerate((method, *reversed(below))):
            node = siblings.get(frame)
            if node is None:
                node = siblings[frame] = Node(frame, depth, [0] * size, [0] * size, [0] * size)
            node.add(sample.values, is_innermost=depth == len(below))
            siblings = node.children
    return list(methods.values())


def largest(methods: list[Node], most: int) -> tuple[list[Node], int]:
    """The nodes with the largest share of any type, ``most`` at most, and how many there are besides.

    Each comes after its caller, and before its siblings that have less of the last type. None comes without its
    caller, which has as much or more.
    """
    wholes = [sum(changes) or 1 for changes in zip(*(node.changes for node in methods), strict=True)]

    def weight(node: Node) -> float:
        return max(change / whole for change, whole in zip(node.changes, wholes, strict=True))

    nodes = list(_walk(methods))
    if len(nodes) <= most:
        return nodes, 0
    kept = set(sorted(nodes, key=lambda node: (-weight(node), node.depth))[:most])
    return [node for node in nodes if node in kept], len(nodes) - most


def _walk(methods: list[Node]) -> Iterator[Node]:
    """Callers first. Without recursion: a stack may be deeper than Python's own."""
    left = sorted(methods, key=_last)
    while left:
        node = left.pop()
        yield node
        left += sorted(node.children.values(), key=_last)


def _last(node: Node) -> int:
    return node.changes[-1]

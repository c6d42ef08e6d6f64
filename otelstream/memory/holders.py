"""What keeps messages alive: from a retained sample up to a name that a person knows.

The garbage collector is asked level by level who refers to what was found (``gc.get_referrers``): each level is one
pass over all objects, 14 ms per million of them for one object to look for, 70 ms for 64, the most that are followed.
What it does not see is asked for otherwise: variables of running functions, and containers that it leaves out.
"""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from otelstream.memory.holding import frames, naming, ours, peek, places, references, registries, untracked
from otelstream.memory.holding.links import Level, Node, Rank, local

_TARGETS = 8
_FRONTIER = 64
"""Objects whose referrers are asked for at once: a pass takes longer with each."""
_REFERRERS = 500
"""Referrers that are looked at in one level: some objects are known all over a program."""
_FROZEN_AT_START = 1_000
"""Python 3.12 freezes some hundred objects of its own."""
_LEVELS = 16
_PATIENCE = 4
"""Levels that are searched for a container of many, after a name that has none."""


@dataclass(frozen=True, slots=True)
class Holder:
    """What keeps messages alive."""

    name: str
    """``list `ChatService.history` (server.py:41)``."""
    count: int
    """Samples found under it."""
    path: tuple[str, ...]
    """From the name down to the message: types, names and lengths only."""
    bounded: bool = False
    """It takes only so many: ``deque(maxlen=)``, ``Queue(maxsize=)``, ``lru_cache(maxsize=)``."""


class _Target:
    """A message, and how far its search is."""

    __slots__ = ("leaf", "named_at", "rank", "settled")

    def __init__(self, leaf: Node) -> None:
        self.leaf = leaf
        self.rank = Rank.NONE
        self.named_at: int | None = None
        """Level."""
        self.settled = False

    def look(self, level: int) -> set[Node]:
        """Take note of the best name so far. Gives all that is on a way up."""
        name, above = naming.best_name(self.leaf)
        if name is not None:
            self.rank = name.rank
            if name.rank <= Rank.ROOT and self.named_at is None:
                self.named_at = level
        waited = self.named_at is not None and level - self.named_at >= _PATIENCE
        self.settled = self.rank is Rank.MANY or waited
        return above


class Search:
    """A search that can be interrupted: each step holds the GIL for about ``budget_s``.

    It keeps what it has found on its way alive until it is finished, or dropped.
    """

    def __init__(
        self,
        targets: Sequence[object],
        *,
        ignore: Iterable[int] = (),
        budget_s: float = 0.2,
        clock: Callable[[], float] = time.thread_time,
    ) -> None:
        """``ignore``: ids of the containers in which the caller keeps ``targets``, which itself is ignored anyway."""
        self._ignored = {id(targets), *ignore}
        self._budget_s = budget_s
        self._clock = clock
        self._given = len(targets)
        followed = list(targets)
        if self._given > _TARGETS:
            followed = [targets[index * self._given // _TARGETS] for index in range(_TARGETS)]
        self._nodes = {id(item): Node(item) for item in followed}
        self._targets = [_Target(node) for node in self._nodes.values()]
        self._frontier = [target.leaf for target in self._targets]
        self._level = 0
        self._scan: set[Node] = set()
        self._scanned: set[Node] = set()
        self._scan_from = 0
        self._reasons: list[str] = []
        self._cuts: set[str] = set()
        """What was left out, which matters only where no good name was found."""
        self.finished = not self._targets

    def step(self) -> bool:
        """Search on. True when finished."""
        started = self._clock()
        while not self.finished:
            began = self._clock()
            self._search_on()
            now = self._clock()
            if now - began > self._budget_s and not self.finished:
                # Every further level takes as long: the program has too many objects for the budget.
                self.stop(
                    f"one pass of the garbage collector took {(now - began) * 1e3:.0f} ms, more than the "
                    f"{self._budget_s * 1e3:.0f} ms allowed: deeper levels were not searched"
                )
            if now - started + (now - began) > self._budget_s:
                break
        return self.finished

    def stop(self, reason: str | None = None) -> None:
        """Finish here, and let go of everything. ``reason`` is noted."""
        if reason is not None:
            self._reasons.append(reason)
        self.finished = True
        for node in self._nodes.values():
            node.item = None
            node.children.clear()
        self._frontier = []
        self._nodes.clear()

    def holders(self) -> list[Holder]:
        """Found so far, the commonest first. Valid after any step."""
        names = [name for target in self._targets if (name := naming.best_name(target.leaf)[0]) is not None]
        first = {name.text: name for name in reversed(names)}
        counts = Counter(name.text for name in names).most_common()
        return [Holder(text, count, first[text].path, first[text].bounded) for text, count in counts]

    def notes(self) -> list[str]:
        """What was not reached, and why."""
        followed = len(self._targets)
        notes = [f"{followed} of {self._given} messages were followed"] if followed < self._given else []
        nameless = sum(target.rank is Rank.NONE for target in self._targets)
        if nameless:
            frozen = gc.get_freeze_count()
            hidden = f", or one of the {frozen:,} objects that gc.freeze() hides" if frozen > _FROZEN_AT_START else ""
            notes.append(
                f"{nameless} of {followed} messages: nothing of the program was found to hold them; C code may, or a "
                f"container that the garbage collector does not see{hidden}"
            )
        if any(target.rank > Rank.ROOT for target in self._targets):
            notes += sorted(self._cuts)
        return notes + self._reasons

    def _search_on(self) -> None:
        if self._frontier:
            self._go_up(self._referrers())
            self._level += 1
        elif self._scan:
            self._scan_part()
        if self._level >= _LEVELS:
            self.stop(f"stopped after {_LEVELS} levels")
        elif not self._frontier and not self._scan and not self._begin_scan():
            self.stop()

    def _referrers(self) -> list[Any]:
        items = tuple(node.item for node in self._frontier)  # the tuple that is passed, which is a referrer, too
        found = gc.get_referrers(*items)
        found = [item for item in found if item is not items and item is not found]
        if len(found) > _REFERRERS:
            self._cuts.add(f"an object has {len(found):,} referrers, of which {_REFERRERS:,} were looked at")
        return found[:_REFERRERS]

    def _go_up(self, referrers: list[Any]) -> None:
        """Link what refers to the frontier to it; what is new and worth it is the next frontier."""
        below = {id(node.item): node for node in self._frontier}
        if frames.is_tracing():
            self._cuts.add("local variables were not looked at, because a debugger, profiler or coverage tool is on")
        for found, name, place, code in frames.running(set(below)):
            below[found].links.append((Node(None), local(name, place, places.is_foreign_code(code))))
        self._frontier = self._worth_following(self._link(referrers, below))

    def _link(self, referrers: list[Any], below: dict[int, Node]) -> list[Node]:
        """The new nodes."""
        level = Level()
        new = []
        for item in referrers:
            if id(item) in self._ignored or type(item) is Node:
                continue
            if ours.is_ours(item, level.namespaces):
                for held in peek.held_by(item, set(below)):
                    below[held].is_ours = True
                continue
            node = self._nodes.get(id(item)) or Node(item)
            try:
                leads_on = [self._hold(node, below[held], level) for held in peek.held_by(item, set(below))]
            except (AttributeError, LookupError, ReferenceError, RuntimeError, TypeError, ValueError) as error:
                self._cuts.add(f"an object of type {node.word} could not be read: {type(error).__name__}")
                continue
            if any(leads_on) and id(item) not in self._nodes and not registries.is_end(item):
                self._nodes[id(item)] = node
                new.append(node)
        return new

    def _hold(self, node: Node, child: Node, level: Level) -> bool:
        """``node`` holds ``child``. True when it may be worth it to look further up."""
        if node is child:
            return False
        node.children.append(child)
        leads_on = False
        for held, link in references.links(node.item, child, level):
            held.links.append((node, link))
            leads_on = leads_on or not link.is_last
        return leads_on

    def _worth_following(self, nodes: list[Node]) -> list[Node]:
        """Those that lead up from a message without a good name, as many for each."""
        above = {target: target.look(self._level) for target in self._targets}
        searching = [target for target in self._targets if not target.settled]
        share = _FRONTIER // max(1, len(searching))
        chosen: dict[Node, None] = {}
        for target in searching:
            candidates = [node for node in nodes if node in above[target]]
            chosen |= dict.fromkeys(candidates[:share])
            if len(candidates) > share:
                self._cuts.add("some ways up were not followed: there are too many")
        return list(chosen)

    def _begin_scan(self) -> bool:
        """True when there is something to look for among the containers that the garbage collector leaves out."""
        for target in self._targets:
            if target.rank > Rank.SOME and not target.settled:
                _, above = naming.best_name(target.leaf)
                self._scan |= {node for node in above if node.item is not None and not gc.is_tracked(node.item)}
        self._scan -= self._scanned
        self._scanned |= self._scan
        self._scan_from = 0
        return bool(self._scan)

    def _scan_part(self) -> None:
        below = {id(node.item): node for node in self._scan}
        found, follows = untracked.holding(set(below), self._scan_from)
        self._frontier = self._worth_following(self._link(found, below))
        if follows is None:
            self._scan.clear()
        else:
            self._scan_from = follows


def holders_of(
    targets: Sequence[object],
    *,
    ignore: Iterable[int] = (),
    budget_s: float = 0.2,
    max_steps: int = 20,
    wait: Callable[[], None] = lambda: time.sleep(0.005),
) -> tuple[list[Holder], list[str]]:
    """Holders and notes of a search to its end. ``wait`` lets other threads run between two steps."""
    search = Search(targets, ignore=ignore, budget_s=budget_s)
    for _ in range(max_steps):
        if search.step():
            break
        wait()
    else:
        search.stop(f"stopped after {max_steps} steps")
    return search.holders(), search.notes()

"""Holders that are better known by what they will do than by their attribute: callbacks, threads, partials, loggers."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
import weakref
from collections.abc import Callable
from typing import Any

from otelstream.memory.holding import peek, places
from otelstream.memory.holding.links import Level, Link, Rank, plain, variable

_FINALIZER = weakref.finalize._Info  # type: ignore[attr-defined]
_THREAD_ATTRIBUTES = frozenset({"_args", "_kwargs", "_target", "args", "kwargs", "function"})


def link(item: Any, attribute: str, level: Level) -> Link | None:
    """How ``item`` holds what is in its ``attribute``; None for an attribute like any other."""
    rule = next((rule for kind, rule in _RULES if peek.is_a(type(item), kind)), None)
    return rule(item, attribute, level) if rule else None


def is_end(item: object) -> bool:
    """An event loop holds everything that waits, and says nothing about why."""
    return peek.is_a(type(item), asyncio.AbstractEventLoop)


def _handle(item: Any, attribute: str, _level: Level) -> Link | None:
    if attribute not in ("_callback", "_args"):
        return Link()
    how = "loop.call_later" if peek.is_a(type(item), asyncio.TimerHandle) else "loop.call_soon"
    name = places.callable_name(peek.slot(item, "_callback"))
    return variable(f"callback {name} of {how}", "", False, Rank.REGISTERED)


def _finalizer(item: Any, _attribute: str, _level: Level) -> Link | None:
    name = places.callable_name(peek.slot(item, "func"))
    return variable(f"callback {name} of weakref.finalize", "", False, Rank.REGISTERED)


def _thread(item: Any, attribute: str, level: Level) -> Link | None:
    if attribute not in _THREAD_ATTRIBUTES:
        return None
    owner, _ = level.attribute_at(type(item), attribute)
    if not places.is_foreign(peek.module_of(owner)):
        return None
    values = peek.attributes(item) or {}
    name = places.callable_name(values.get("_target") or values.get("function"))
    if peek.is_a(type(item), threading.Timer):
        return variable(f"callback {name} of threading.Timer", "", False, Rank.REGISTERED)
    # Once it runs, the variable of its function says the same, and where it is now.
    return variable(f"arguments of threading.Thread running {name}", "", False, Rank.ATTRIBUTE)


def _logger(item: Any, attribute: str, _level: Level) -> Link | None:
    name = (peek.attributes(item) or {}).get("name")
    if attribute != "handlers" or type(name) is not str:
        return None
    return variable(f"logger `{name}`", "", False)


def _partial(item: Any, attribute: str, _level: Level) -> Link | None:
    if attribute not in ("args", "keywords", "func"):
        return None
    name = f"functools.partial of {places.callable_name(item)}"
    return Link(plain(name), name, Rank.ATTRIBUTE)


_RULES: tuple[tuple[type, Callable[[Any, str, Level], Link | None]], ...] = (
    (asyncio.Handle, _handle),
    (_FINALIZER, _finalizer),
    (threading.Thread, _thread),
    (logging.Logger, _logger),
    (functools.partial, _partial),
)

"""How one object holds another: what the referrer is, what it calls what it holds, and whether that is a name."""

from __future__ import annotations

import functools
import gc
import types
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import replace
from types import CellType, FrameType, FunctionType, MethodType, TracebackType
from typing import Any

from otelstream.memory.holding import frames, peek, places, registries
from otelstream.memory.holding.links import Found, Level, Link, Node, Rank, is_bound, local, plain, variable

_MANY = 16
"""C objects with as many references count as containers."""


def links(item: Any, child: Node, level: Level) -> Found:
    """How ``item`` holds ``child``; nothing when that is no holding to speak of."""
    kind = type(item)
    if kind is dict:
        module = level.namespaces.get(id(item))
        if module is None and "__builtins__" in item:  # of a module that is not imported by its name
            module = item.get("__name__")
        if type(module) is str:
            return _global(item, child, module)
    if rule := _RULES.get(id(kind)):
        return rule(item, child)
    if peek.type_name(kind) == "hamt_bitmap_node":
        return _context(item, child)
    if peek.is_a(kind, type):
        return _class(item, child)
    if peek.is_exact(kind) or (peek.is_container(kind) and peek.has_element(item, child.item)):
        return _container(item, child)
    return _instance(item, child, level)


def _held_as(item: Any, child: Node, level: Level) -> Iterator[tuple[Node, str]]:
    """What is held as an attribute, and the attribute's name."""
    if name := peek.attribute_of(item, child.item, level.mentioned(type(item))):
        yield child, name
    elif type(child.item) is dict and (names := peek.attributes(item)) is child.item:
        yield from _in_namespace(names, child)


def _in_namespace(names: dict[Any, Any], child: Node) -> Iterator[tuple[Node, str]]:
    for held in child.children:
        if name := peek.name_in(names, held.item):
            yield held, name


def _global(names: dict[Any, Any], child: Node, module: str) -> Found:
    if name := peek.name_in(names, child.item):
        place = places.global_at(names.get("__file__"), name)
        yield child, variable(f"module global `{module}.{name}`", place, places.is_foreign(module))


def _class(kind: type, child: Node) -> Found:
    foreign = places.is_foreign(peek.module_of(kind))
    for held, name in _in_namespace(dict(peek.namespace(kind)), child):
        text = f"class attribute `{peek.qualname(kind)}.{name}`"
        yield held, variable(text, places.class_attribute_at(kind, name), foreign)


def _container(item: Any, child: Node) -> Found:
    kind, size = type(item), peek.length(item) or 0
    grows = not peek.is_a(kind, tuple, frozenset)
    most = item.maxlen if kind is deque else None
    text = f"{peek.type_name(kind)} of {size:,}" + (f", at most {most:,}" if most is not None else "")
    yield child, Link(text, size=size if grows else 0, bounded=is_bound(most))


def _instance(item: Any, child: Node, level: Level) -> Found:
    found = False
    for held, name in _held_as(item, child, level):
        found = True
        link = registries.link(item, name, level) or _attribute(type(item), name, level)
        yield held, replace(link, bounded=True) if Node(item).is_queue and _is_bounded_queue(item) else link
    if not found:
        yield child, _unnamed(item, child)


def _attribute(kind: type, name: str, level: Level) -> Link:
    owner, place = level.attribute_at(kind, name)
    text = f"{peek.qualname(kind)}.{name}"
    foreign = places.is_foreign(peek.module_of(owner))
    return Link(text, f"`{text}`{place}", Rank.ATTRIBUTE, foreign=foreign, is_attribute=True)


def _is_bounded_queue(item: Any) -> bool:
    """``queue.Queue(maxsize=)`` or ``asyncio.Queue(maxsize=)``."""
    names = peek.attributes(item) or {}
    return is_bound(names.get("maxsize")) or is_bound(names.get("_maxsize"))


def _unnamed(item: Any, child: Node) -> Link:
    """C code's objects, and what Python keeps of its own in others."""
    kind = type(item)
    word = peek.type_name(kind)
    if type(child.item) is TracebackType:
        return Link(f"through the traceback of {word}")
    if peek.is_a(kind, BaseException):
        return Link(word)
    size = len(gc.get_referents(item))
    return Link(word, f"object `{word}`", Rank.FOREIGN, size if size >= _MANY else 0, foreign=True)


def _function(item: FunctionType, child: Node) -> Found:
    code, held = item.__code__, child.item
    owner, place, foreign = item.__qualname__, places.function_at(code), places.is_foreign_code(code)
    named: list[tuple[Node, str]] = []
    kind = "default argument"
    if held is item.__closure__:
        kind = "closure variable"
        for cell in child.children:
            index = next(index for index, one in enumerate(item.__closure__) if one is cell.item)
            named += [(value, code.co_freevars[index]) for value in cell.children]
    elif held is item.__defaults__:
        names = code.co_varnames[code.co_argcount - len(item.__defaults__) : code.co_argcount]
        for value in child.children:
            named += [(value, name) for name, one in zip(names, item.__defaults__, strict=True) if one is value.item]
    elif held is item.__kwdefaults__:
        named += _in_namespace(item.__kwdefaults__, child)
    elif type(held) is dict and held is item.__dict__:
        kind = "attribute"
        named += _in_namespace(item.__dict__, child)
    for value, name in named:
        text = f"{kind} `{name}` of {owner}"
        yield value, Link(plain(text), text + place, Rank.ROOT, foreign=foreign)


def _leading_on(_item: Any, child: Node) -> Found:
    yield child, Link()


def _method(item: MethodType, child: Node) -> Found:
    yield child, Link(f"method {plain(places.callable_name(item))}")


def _values(nodes: list[Node]) -> Iterator[Node]:
    """What variables stand for: a cell is the variable of a function that others close over."""
    for node in nodes:
        yield from node.children if type(node.item) is CellType else [node]


def _generator(item: Any, child: Node) -> Found:
    frame = frames.frame_of(item)
    if frame is None:
        return
    held = list(_values(child.children if child.item is frame else [child]))
    ids = {id(node.item) for node in held}
    names, around = frames.locals_of(frame, ids), frames.free_variables_of(frame, ids)
    code, foreign = frame.f_code, places.is_foreign_code(frame.f_code)
    for node in held:
        key = id(node.item)
        if key in around and key not in names:
            text = f"closure variable `{around[key]}` of {frames.function_name(code)}"
            yield node, Link(plain(text), text + places.function_at(code), Rank.ROOT, foreign=foreign)
        else:
            yield node, local(names.get(key, ""), frames.place(frame), foreign)


def _frame(item: FrameType, child: Node) -> Found:
    yield child, Link(f"frame {frames.place(item)}")


def _traceback(item: TracebackType, child: Node) -> Found:
    frame = item.tb_frame
    if child.item is not frame:
        yield child, Link()
        return
    held = list(_values(child.children))
    names = frames.locals_of(frame, {id(node.item) for node in held})
    code = frame.f_code  # of a function that has ended: a list of its own grows no more, so this is no good name
    place = frames.function_name(code) + places.at(code.co_filename, item.tb_lineno)
    for node in held:
        name = f"local `{names.get(id(node.item), '?')}` of {place} in a traceback"
        yield node, Link(f"frame {place}", name, Rank.FOREIGN, foreign=True)


def _cache(item: Any, child: Node) -> Found:
    names = peek.attributes(item) or {}
    wrapped = names.get("__wrapped__")
    if child.item is wrapped or child.item is names:
        yield child, Link()
    else:
        info = functools._lru_cache_wrapper.cache_info(item)
        text = f"lru_cache of {places.callable_name(wrapped)}"
        yield child, variable(text, "", False, size=info.currsize, bounded=is_bound(info.maxsize))


def _context(item: Any, child: Node) -> Found:
    """A node of the tree that a ``Context`` is: values and their variables in turn."""
    held = gc.get_referents(item)
    at = next((index for index, one in enumerate(held) if one is child.item), len(held))
    variables = [one for one in held[at + 1 : at + 2] if type(one) is ContextVar]
    for one in variables:
        yield child, variable(f"context variable `{one.name}`", "", False, Rank.REGISTERED)
    if not variables:
        yield child, Link()


def _nothing(_item: Any, _child: Node) -> Found:
    return iter(())


_RULES: dict[int, Callable[[Any, Node], Found]] = {
    id(FunctionType): _function,
    id(CellType): _leading_on,
    id(MethodType): _method,
    id(FrameType): _frame,
    id(TracebackType): _traceback,
    id(types.GeneratorType): _generator,
    id(types.CoroutineType): _generator,
    id(types.AsyncGeneratorType): _generator,
    id(types.ModuleType): _nothing,
    id(types.CodeType): _nothing,
    id(functools._lru_cache_wrapper): _cache,
}
"""By the id of the exact type: a metaclass may have a ``__hash__`` of its own."""

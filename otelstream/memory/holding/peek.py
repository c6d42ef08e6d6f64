"""Looking at any object without running any of its code: no ``repr``, ``==``, ``len``, property or ``__getattr__``.

Even ``isinstance`` and ``type(x).__mro__`` may run code of the user's (``__class__`` as a property, a metaclass), so
everything here goes through the descriptors of ``type`` and ``object`` themselves.
"""

from __future__ import annotations

import gc
import sys
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterable, Iterator
from itertools import chain
from types import FunctionType, GetSetDescriptorType, MemberDescriptorType, ModuleType
from typing import Any

# Any: typeshed knows these descriptors as plain attributes.
_TYPE: Any = type.__dict__
_CONTAINERS: tuple[Any, ...] = (list, dict, set, deque, tuple, frozenset)
_INLINE_VALUES = sys.version_info >= (3, 11)
_PUBLIC = {"asyncio.queues": "asyncio", "_queue": "queue", "_asyncio": "asyncio", "_functools": "functools"}
"""Where the documentation has the classes of these modules."""


def mro(kind: type) -> tuple[type, ...]:
    """Method resolution order."""
    order: tuple[type, ...] = _TYPE["__mro__"].__get__(kind)
    return order


def is_a(kind: type, *bases: type) -> bool:
    """``kind`` is one of ``bases`` or a subclass of one."""
    return any(one is base for one in mro(kind) for base in bases)


def namespace(kind: type) -> list[tuple[str, Any]]:
    """Names and values in the body of a class."""
    return list(_TYPE["__dict__"].__get__(kind).items())


def module_of(kind: type) -> str:
    """Name of the module of a class; empty when it says none."""
    try:
        name = _TYPE["__module__"].__get__(kind)
    except AttributeError:
        return ""
    return name if type(name) is str else ""


def qualname(kind: type) -> str:
    """Of a class."""
    name: str = _TYPE["__qualname__"].__get__(kind)
    return name


def type_name(kind: type) -> str:
    """As a person knows it: ``list``, ``Envelope``, ``asyncio.Queue``."""
    module = module_of(kind)
    module = _PUBLIC.get(module, module)
    return f"{module}.{qualname(kind)}" if module in ("asyncio", "queue", "functools") else qualname(kind)


def is_container(kind: type) -> bool:
    """Of Python's own, or a subclass of one."""
    return is_a(kind, *_CONTAINERS)


def is_exact(kind: type) -> bool:
    """Of Python's own: it has elements, and no attributes."""
    return any(kind is base for base in (*_CONTAINERS, OrderedDict, defaultdict))


def has_element(item: Any, value: object) -> bool:
    """Of a subclass of a built-in container, which may hold ``value`` as an attribute instead."""
    base = next(base for base in _CONTAINERS if is_a(type(item), base))
    elements = chain(dict.values(item), dict.keys(item)) if base is dict else base.__iter__(item)
    return id(value) in map(id, elements)


def length(item: object) -> int | None:
    """Of a built-in container or of a subclass of one, whatever its own ``__len__`` says; None for all else."""
    kind = type(item)
    for base in _CONTAINERS:
        if is_a(kind, base):
            size: int = base.__len__(item)
            return size
    return None


def contents(item: Any) -> Iterable[object]:
    """What ``item`` refers to, itself where it can be walked without a copy: it may hold millions."""
    kind = type(item)
    if kind is dict:
        return chain(item.values(), item)
    if any(kind is base for base in _CONTAINERS):
        return item  # type: ignore[no-any-return]
    if kind is ModuleType:  # asking what _asyncio refers to breaks it before Python 3.12.6 (CPython gh-122695)
        return ()
    return gc.get_referents(item)


def held_by(item: object, ids: set[int]) -> set[int]:
    """Those of ``ids`` that ``item`` refers to. One call into C: no other thread changes ``item`` meanwhile."""
    return ids.intersection(map(id, contents(item)))


def functions(kind: type) -> Iterator[FunctionType]:
    """The functions in the body of a class, ``__init__`` first, without their decorators where these tell."""
    body = namespace(kind)
    body.sort(key=lambda item: item[0] != "__init__")
    for _, value in body:
        function = value
        if is_a(type(value), staticmethod, classmethod):
            function = value.__func__
        elif type(value) is property:
            function = value.fget
        while type(function) is FunctionType and type(function.__dict__.get("__wrapped__")) is FunctionType:
            function = function.__dict__["__wrapped__"]
        if type(function) is FunctionType:
            yield function


def slot(item: object, name: str) -> Any:
    """Value of a slot, or of an attribute that C code shows as one; None when it is not set."""
    kind = type(item)
    for owner in mro(kind):
        member = _TYPE["__dict__"].__get__(owner).get(name)
        if type(member) is MemberDescriptorType:
            try:
                return member.__get__(item, kind)
            except AttributeError:
                return None
    return None


def attributes(item: object) -> dict[str, Any] | None:
    """The instance's ``__dict__``; None when it has none.

    From Python 3.11 on instances keep their attributes without a dict until one is asked for, and this asks: the
    instance is some 100 bytes larger from then on.
    """
    kind = type(item)
    for owner in mro(kind):
        member = _TYPE["__dict__"].__get__(owner).get("__dict__")
        if type(member) in (GetSetDescriptorType, MemberDescriptorType):
            found = member.__get__(item, kind)
            return found if type(found) is dict else None
    return None


def name_in(names: dict[Any, Any], value: object) -> str | None:
    """The name that ``value`` has in a namespace; a copy is walked, because other threads go on."""
    return next((name for name, item in list(names.items()) if item is value and type(name) is str), None)


def attribute_of(item: object, value: object, mentioned: list[str]) -> str | None:
    """The instance attribute or slot of ``item`` that is ``value``. ``mentioned`` is ``attributes_mentioned``."""
    kind = type(item)
    for owner in mro(kind):
        for name, member in namespace(owner):
            if type(member) is MemberDescriptorType and slot(item, name) is value:
                return name
    for name in mentioned:
        try:
            if object.__getattribute__(item, name) is value:
                return name
        except (AttributeError, TypeError):
            continue
    names = attributes(item)
    return None if names is None else name_in(names, value)


def attributes_mentioned(kind: type) -> list[str]:
    """Names in the methods of a class that can be read off its instances: no descriptor of the class would run.

    To try them makes no ``__dict__`` on an instance of Python 3.11 and later. Before, there is always one.
    """
    if not _INLINE_VALUES:
        return []
    order = mro(kind)
    bodies = [_TYPE["__dict__"].__get__(owner) for owner in order]
    names = dict.fromkeys(name for owner in order for one in functions(owner) for name in one.__code__.co_names)
    return [name for name in names if not any(name in body and _is_descriptor(body[name]) for body in bodies)]


def _is_descriptor(value: object) -> bool:
    return any("__get__" in _TYPE["__dict__"].__get__(owner) for owner in mro(type(value)))


def module_namespaces() -> dict[int, str]:
    """The names of the imported modules by the id of their globals."""
    read: Any = _TYPE["__dict__"].__get__(ModuleType)["__dict__"]
    modules = reversed(list(sys.modules.items()))  # of several names the first: `__main__`, not `__mp_main__`
    return {id(read.__get__(module)): name for name, module in modules if is_a(type(module), ModuleType)}

"""What belongs to otelstream itself, and is therefore no holder."""

from __future__ import annotations

from collections.abc import Mapping
from types import FrameType, FunctionType, MethodType, ModuleType
from typing import Any

from otelstream.memory.holding import frames, peek, places


def is_ours(item: Any, namespaces: Mapping[int, str]) -> bool:
    """An instance, a class, a function, a running function or a module of otelstream."""
    kind = type(item)
    if kind is FunctionType or kind is FrameType or frames.is_generator(item):
        return places.is_our_code(frames.code_of(item))
    if kind is MethodType:
        return is_ours(item.__func__, namespaces) or is_ours(item.__self__, namespaces)
    return places.is_ours(_module(item, kind, namespaces))


def _module(item: Any, kind: type, namespaces: Mapping[int, str]) -> str:
    if kind is dict:
        return namespaces.get(id(item), "")
    if kind is ModuleType:
        return namespaces.get(id(item.__dict__), "")
    return peek.module_of(item if peek.is_a(kind, type) else kind)

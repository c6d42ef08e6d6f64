"""What is replaced in grpcio and in ``threading``, and how it is put back.

Classes are patched rather than the functions that make them (``grpc.server``, ``grpc.insecure_channel``): an
application that bound those names before we started is covered, and channels and servers stay grpcio's own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import grpc
import wrapt

from otelstream.intercept import client, server
from otelstream.intercept.watcher import Watcher

_log = logging.getLogger(__name__)

_INTERCEPTORS = 2
"""Position of ``interceptors`` in both servers' constructors, after ``thread_pool`` and ``generic_handlers``."""

Patch = tuple[Any, str, Any]
"""(class, attribute, what was there)."""


def apply(watcher: Watcher) -> list[Patch]:
    """Patch grpcio to report to ``watcher``; what ``restore`` needs to undo it.

    A grpcio that lacks what is patched costs one line per place, never the service.
    """
    patches: list[Patch] = []
    for owner in (("grpc._channel", "Channel"), ("grpc.aio._channel", "Channel")):
        for kind in client.CHANNEL_METHODS:
            _patch(patches, *owner, kind, partial(_channel_method, watcher, kind))
    _patch(patches, "grpc._channel", "Channel", "__init__", _channel_init)
    _patch(patches, "grpc.aio._channel", "Channel", "__init__", _channel_init)
    _patch(patches, "grpc._server", "_Server", "__init__", partial(_server_init, server.ServerInterceptor(watcher)))
    _patch(
        patches, "grpc.aio._server", "Server", "__init__", partial(_server_init, server.AioServerInterceptor(watcher))
    )
    _patch(patches, "threading", "Thread", "start", partial(_thread_start, watcher))
    return patches


def restore(patches: list[Patch]) -> None:
    """Put back what ``apply`` replaced."""
    for owner, name, original in reversed(patches):
        setattr(owner, name, original)
    patches.clear()


def _patch(patches: list[Patch], module: str, owner_name: str, name: str, wrapper: Callable[..., Any]) -> None:
    try:
        owner, attribute, original = wrapt.resolve_path(module, f"{owner_name}.{name}")
    except (ImportError, AttributeError) as error:
        _log.warning(
            "otelstream does not know this grpcio (%s: %s): %s.%s.%s is not instrumented; use grpcio from 1.60 on",
            *(grpc.__version__, error, module, owner_name, name),
        )
        return
    setattr(owner, attribute, wrapt.FunctionWrapper(original, wrapper))
    patches.append((owner, attribute, original))


def _channel_method(
    watcher: Watcher,
    kind: str,
    wrapped: Callable[..., Any],
    channel: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    return client.multi_callable(watcher, kind, wrapped, client.target_of(channel), *args, **kwargs)


def _channel_init(wrapped: Callable[..., Any], channel: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    made = wrapped(*args, **kwargs)
    client.remember_target(channel, args[0] if args else kwargs.get("target"))
    return made


def _server_init(
    interceptor: Any, wrapped: Callable[..., Any], _server: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    name = "interceptors"
    if len(args) > _INTERCEPTORS:
        args = (*args[:_INTERCEPTORS], _ours_first(interceptor, args[_INTERCEPTORS]), *args[_INTERCEPTORS + 1 :])
    else:
        kwargs = {**kwargs, name: _ours_first(interceptor, kwargs.get(name))}
    return wrapped(*args, **kwargs)


def _thread_start(
    watcher: Watcher, wrapped: Callable[..., Any], thread: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    watcher.guard.run("thread.start", watcher.work.started, thread)
    return wrapped(*args, **kwargs)


def _ours_first(interceptor: Any, theirs: Any) -> Any:
    """Ours sees the handler that all others made, and they run within its context."""
    try:
        return (interceptor, *(theirs or ()))
    except TypeError:
        return theirs  # no interceptors at all: grpc is about to say so

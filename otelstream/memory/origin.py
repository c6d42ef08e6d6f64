"""Which call something belongs to: the context variable that tasks inherit, and what is known by it.

Tasks and threads that outlive their call, blocks of memory and samples of time are all told apart by it.
"""

from __future__ import annotations

import weakref
from contextvars import ContextVar
from types import CodeType
from typing import Any

from opentelemetry.trace import SpanContext, format_span_id, format_trace_id

from otelstream.history import MethodKey
from otelstream.record import Call


class Origin:
    """A call as it is remembered by what comes from it. Small, for it lives as long as that does; holds no call."""

    __slots__ = ("ended_ns", "handler", "key", "made_in", "outer", "span_context", "start_ns")

    def __init__(self, call: Call) -> None:
        self.key = MethodKey(call.method, call.side)
        self.start_ns = call.start_ns
        self.ended_ns = 0
        """0 while the call is open."""
        self.outer: Origin | None = None
        """The server's call that a client's call was made in."""
        self.made_in: weakref.ref[Any] | None = None
        """The task that made the call: it is not inside, but around it."""
        self.handler: CodeType | None = None
        """The function that serves the call."""
        self.span_context: SpanContext | None = None
        """Of the stream span."""

    @property
    def trace_id(self) -> str:
        """Of the stream span, in hex as W3C Trace Context has it; empty where there is none."""
        context = self.span_context
        return format_trace_id(context.trace_id) if context is not None and context.is_valid else ""

    @property
    def span_id(self) -> str:
        """The same of its span."""
        context = self.span_context
        return format_span_id(context.span_id) if context is not None and context.is_valid else ""


ORIGIN: ContextVar[Origin | None] = ContextVar("otelstream_origin", default=None)
"""Inherited by what is started inside a call."""

"""What is known of the open streams, and of handlers that go on after their call, when a verdict is asked for."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from typing import Any

from grpc._cython import cygrpc  # type: ignore[attr-defined]  # C

from otelstream.findings import OpenStream
from otelstream.intercept.handling import Handling
from otelstream.record import Call, RpcType, Side, State
from otelstream.spans import seconds
from otelstream.weakbag import WeakBag

_MOST = 2000
"""Streams looked at: the oldest."""
_MOST_PLACES = 64
"""Streams per look whose line is asked for, besides those that are idle."""


class Streams:
    """Looks at the streams of one runtime."""

    def __init__(self, handlers: WeakBag[Handling], idle_s: float) -> None:
        """``idle_s``: a stream that is idle for as long is worth knowing where it is."""
        self._handlers = handlers
        self._idle_s = idle_s
        self._gone: weakref.WeakKeyDictionary[Handling, int] = weakref.WeakKeyDictionary()
        """Since when a handler is known to work for nobody, where its call's record does not tell."""

    def look(self, calls: Iterable[Call], now_ns: int, since_ns: int = 0) -> list[OpenStream]:
        """The open streams among ``calls``, oldest first, and the handlers whose call, made since, is over."""
        handlers = {handling.call.id: handling for handling in self._handlers.all() if handling.still_runs}
        found = list(self._of_calls(calls, handlers, now_ns))
        for handling in handlers.values():
            if handling.call.state is State.ENDED and handling.call.start_ns >= since_ns:
                ended = seconds(now_ns - handling.call.end_ns)
                found.append(_stream(handling.call, now_ns, handling.where(), call_ended=ended))
        return found

    def _of_calls(self, calls: Iterable[Call], handlers: dict[int, Handling], now_ns: int) -> Iterator[OpenStream]:
        places = _MOST_PLACES
        streams = [call for call in calls if call.rpc_type is not RpcType.UNARY]
        for call in streams[:_MOST]:
            is_idle = seconds(now_ns - call.last_activity_ns()) >= self._idle_s
            handling = handlers.get(call.id)
            if handling is None:
                yield _stream(call, now_ns, call.made_at, sending_blocked=is_idle and _client_is_blocked(call))
                continue
            gone_since = self._gone_since(handling, now_ns)
            where = None
            if is_idle or gone_since is not None or places > 0:
                places -= 1
                where = handling.where()
            yield _stream(
                call,
                now_ns,
                where,
                call_ended=seconds(now_ns - gone_since) if gone_since is not None else None,
                half_closed=is_idle and handling.half_closed(),
                sending_blocked=is_idle and handling.sending_blocked(),
            )

    def _gone_since(self, handling: Handling, now_ns: int) -> int | None:
        return self._gone.setdefault(handling, now_ns) if handling.peer_is_gone() else None


def _stream(call: Call, now_ns: int, where: str | None, **more: Any) -> OpenStream:
    return OpenStream(
        method=call.method,
        side=call.side.value,
        age=seconds(now_ns - call.start_ns),
        idle=seconds(now_ns - call.last_activity_ns()),
        deadline=call.deadline_s,
        sent=call.sent.count,
        received=call.received.count,
        where=where,
        **more,
    )


def _client_is_blocked(call: Call) -> bool:
    """A sync client's request waits for the server to make room. grpcio's own state: nothing public tells."""
    if call.side is Side.SERVER or call.rpc_type is RpcType.SERVER_STREAM:
        return False
    made = call.call_object() if type(call.call_object) is weakref.ref else None  # an asyncio call is of another type
    return cygrpc.OperationType.send_message in tuple(getattr(getattr(made, "_state", None), "due", ()))

"""(De)serializers that count: the message path.

A message is seen where its bytes are, so its size is ``len(bytes)``. The closures are bound to one direction of one
call when the call is made; nothing is decided again per message. The body of ``Flow.add`` is written out in them: a
method call would add a third to their cost (``python -m benchmarks.record`` shows it).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from otelstream.memory import heap
from otelstream.observers import Guard
from otelstream.record import Call

Codec = Callable[[Any], Any]


def counting_decoder(call: Call, deserialize: Codec | None, clock: Callable[[], int], guard: Guard) -> Codec:
    """``deserialize`` (None: the bytes are the message), counting what it is given as received."""
    flow = call.received
    decode = _same if deserialize is None else heap.attributed(call.origin, deserialize)

    def decoder(data: bytes) -> Any:
        try:
            message = decode(data)
        except BaseException:
            call.codec_failed = True
            raise
        try:
            flow.count = n = flow.count + 1
            flow.size += (size := len(data))
            flow.last_ns = now_ns = clock()
            (flow.first if n <= flow.room else flow.recent).append((n, now_ns, size))
            if n >= flow.follow_at:
                flow.follow_at = flow.follow(message, n, size, now_ns)
        except Exception as error:  # noqa: BLE001  # whatever fails of ours must not reach the RPC
            guard.fault("codec.received", error)
        return message

    return decoder


def counting_encoder(call: Call, serialize: Codec | None, clock: Callable[[], int], guard: Guard) -> Codec:
    """``serialize`` (None: the message is bytes), counting what it answers as sent."""
    flow = call.sent
    encode = _same if serialize is None else heap.attributed(call.origin, serialize)

    def encoder(message: Any) -> Any:
        try:
            data = encode(message)
        except BaseException:
            call.codec_failed = True
            raise
        try:
            size = len(data)
        except TypeError:  # not bytes: grpc is about to refuse it
            return data
        try:
            flow.count = n = flow.count + 1
            flow.size += size
            flow.last_ns = now_ns = clock()
            (flow.first if n <= flow.room else flow.recent).append((n, now_ns, size))
            if n >= flow.follow_at:
                flow.follow_at = flow.follow(message, n, size, now_ns)
        except Exception as error:  # noqa: BLE001  # whatever fails of ours must not reach the RPC
            guard.fault("codec.sent", error)
        return data

    return encoder


def telling(codec: Codec | None, tell: Callable[[Any], None]) -> Codec:
    """A deserializer that also hands each message to ``tell`` (a user's hook)."""
    decode = _same if codec is None else codec

    def decoder(data: bytes) -> Any:
        message = decode(data)
        tell(message)
        return message

    return decoder


def is_counting(codec: object) -> bool:
    """True for a codec of ours: the call is recorded already, by an interceptor further out."""
    return getattr(codec, "__code__", None) in _OURS


def _same(data: Any) -> Any:
    return data


def _code_of(make: Callable[..., Codec]) -> object:
    return next(const for const in make.__code__.co_consts if hasattr(const, "co_code"))


_OURS = (_code_of(counting_decoder), _code_of(counting_encoder))

"""Making messages."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

from otelstream.demo import settings
from otelstream.demo.v1 import ticks_pb2

SYMBOL = "ACME"
_ORDER_PADDING = bytes(settings.ORDER_BYTES)


def tick(symbol: str, sequence: int, size: int) -> ticks_pb2.Tick:
    """The price number ``sequence``, with ``size`` bytes of padding."""
    return ticks_pb2.Tick(
        symbol=symbol,
        price=100 + 10 * math.sin(sequence / 50),
        sequence=sequence,
        time_unix_nano=time.time_ns(),
        padding=bytes(size),
    )


def order() -> ticks_pb2.Order:
    """An order to buy."""
    return ticks_pb2.Order(symbol=SYMBOL, quantity=1, padding=_ORDER_PADDING)


def orders(count: int) -> Iterator[ticks_pb2.Order]:
    """``count`` orders."""
    return (order() for _ in range(count))


def upload(count: int) -> Iterator[ticks_pb2.Tick]:
    """``count`` ticks as a client hands them in."""
    return (tick(SYMBOL, sequence, settings.ORDER_BYTES) for sequence in range(1, count + 1))


def subscription(count: int = 0, interval_s: float = 0.0) -> ticks_pb2.SubscribeRequest:
    """A request for ``count`` ticks, 0 for ticks without end."""
    interval_ms = max(1, round(interval_s * 1000)) if interval_s else 0
    return ticks_pb2.SubscribeRequest(symbol=SYMBOL, count=count, interval_ms=interval_ms, size=settings.QUOTE_BYTES)


def quote() -> ticks_pb2.QuoteRequest:
    """A request for one price."""
    return ticks_pb2.QuoteRequest(symbol=SYMBOL, size=settings.QUOTE_BYTES)

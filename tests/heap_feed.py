"""Heap profiles as otelstream sends them over OTLP, with as much in them as a test wants to see again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import grpc
import pytest

from otelstream.profile.model import (
    MEMORY_KIND,
    METHOD,
    SIDE,
    SPAN_ID,
    TRACE_ID,
    Frame,
    Profile,
    Sample,
    ValueType,
    labels,
)
from otelstream.view.intake import Signal
from otelstream.view.receive.services import SERVICES
from tests.feed import METHOD as FOLLOW
from tests.feed import ns, span_id, trace_id

otlp = pytest.importorskip("otelstream.profile.otlp", exc_type=ImportError)

MIB = 1 << 20
TYPES = (ValueType("inuse_objects", "count"), ValueType("inuse_space", "bytes"))


def held(by: str, size: int, method: str = FOLLOW, stream: int | None = None, side: str = "server") -> Sample:
    """``size`` By in blocks of 1 KiB, allocated in ``Orders.<by>``, called by ``serve``."""
    stack = (Frame(f"Orders.{by}", "shop/orders.py", 12, 10), Frame("serve", "shop/main.py", 7, 3))
    found = {METHOD: method, SIDE: side if method else "", MEMORY_KIND: "python"}
    if stream is not None:
        found |= {TRACE_ID: trace_id(stream).hex(), SPAN_ID: span_id(stream).hex()}
    return Sample(stack, (size // 1024, size), labels(found))


def heap(at: float, *samples: Sample, types: Sequence[ValueType] = TYPES) -> Profile:
    """What is in use ``at`` s since the Unix epoch."""
    return Profile(
        types=tuple(types),
        samples=samples,
        period_type=ValueType("space", "bytes"),
        period=65536,
        time_ns=ns(at),
    )


def process(service: str = "shop", **values: Any) -> dict[str, Any]:
    """The attributes of ``feed.resource``."""
    return {"service.name": service, "service.instance.id": f"{service}-1", **values}


def request(profile: Profile, of: Mapping[str, Any] | None = None) -> Any:
    """An ``ExportProfilesServiceRequest``."""
    return otlp.request(profile, of or process(), "0.1.0")


def send(port: int, profile: Profile, of: Mapping[str, Any] | None = None, authorization: str = "") -> Any:
    """Export it over gRPC to the viewer at ``port``; the answer."""
    service = SERVICES[Signal.PROFILES]
    metadata = (("authorization", authorization),) if authorization else ()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(f"/{service.name}/Export")
        sent = request(profile, of).SerializeToString()
        return service.response.FromString(call(sent, timeout=20, metadata=metadata))

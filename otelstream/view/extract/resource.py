"""OTLP resources to processes."""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import Any

from otelstream.view.extract.attributes import MOST_ATTRIBUTES, text, values
from otelstream.view.rows import ProcessRow

_UNKNOWN_SERVICE = "unknown_service"  # what SDKs call it: resource conventions, "Service"


def process_of(resource: Any) -> ProcessRow | None:
    """The process that an ``opentelemetry.proto.resource.v1.Resource`` names; None with too many attributes to tell."""
    if len(resource.attributes) > MOST_ATTRIBUTES:
        return None
    attributes = values(resource.attributes)
    as_json = json.dumps(attributes, sort_keys=True, separators=(",", ":"))
    return ProcessRow(
        key=blake2b(as_json.encode(), digest_size=16).digest(),
        service=text(attributes.get("service.name")) or _UNKNOWN_SERVICE,
        instance=_instance(attributes),
        attributes=as_json,
    )


def _instance(attributes: dict[str, Any]) -> str:
    instance = text(attributes.get("service.instance.id"))
    if instance:
        return instance
    host, pid = text(attributes.get("host.name")), text(attributes.get("process.pid"))
    return f"{host}:{pid}" if host and pid else host or pid

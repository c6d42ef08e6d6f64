"""What is answered to a request that was taken, the same over gRPC and HTTP."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message

from otelstream.view.intake import Busy, Signal, Taken
from otelstream.view.receive.services import SERVICES

COMMIT_TIMEOUT_S = 10.0
"""Waited for what was taken to be committed; an SDK has given up by then, and sends it again."""


def response_to(signal: Signal, taken: Taken) -> Message:
    """The ``Export…ServiceResponse``, with what was rejected as its partial success."""
    service = SERVICES[signal]
    response: Any = service.response()
    if taken.rejected:
        setattr(response.partial_success, service.rejected, taken.rejected)
        response.partial_success.error_message = taken.why
    return response  # type: ignore[no-any-return]


def too_slow() -> Busy:
    """What is answered when nothing is committed in time. What is kept after all, and sent again, counts once."""
    return Busy(f"The request was not committed after {COMMIT_TIMEOUT_S:g} s. Send it again.")

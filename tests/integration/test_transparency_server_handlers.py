"""Handlers of other kinds than plain functions in a generic handler of grpc's own shape."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import grpc._server
import pytest

from otelstream.testing import Telemetry
from tests.transparency_servers import (
    OK,
    Answer,
    aio_asking,
    answering,
    asking,
    same_served,
)


class Custom(grpc.RpcMethodHandler):  # type: ignore[misc]
    """A handler that is not grpc's own."""

    request_streaming, response_streaming = False, True
    request_deserializer, response_serializer = staticmethod(bytes.decode), staticmethod(str.encode)
    unary_unary = stream_unary = stream_stream = None

    def unary_stream(self, request: str, _context: Any) -> Iterator[str]:
        yield from (request, request)


class ServingCustom(grpc.GenericRpcHandler):  # type: ignore[misc]
    def service(self, _details: Any) -> Any:
        return Custom()


class Generic(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Handles any method of any service, and tells what it was asked for."""

    def service(self, handler_call_details: Any) -> Any:
        method = handler_call_details.method
        return grpc.unary_unary_rpc_method_handler(lambda _request, _context: method.encode())


def test_handlers_of_other_kinds(telemetry: Telemetry) -> None:
    custom, generic, added_later = same_served(
        telemetry,
        asking("unary_stream", (ServingCustom(),)),
        asking("unary_unary", [Generic()], "Whatever"),
        asking("unary_unary", None, "Added", prepare=lambda server: server.add_generic_rpc_handlers([Generic()])),
    )
    assert custom.messages == [b"1", b"1"]
    assert generic.messages == [b"/t.S/Whatever"]
    assert added_later.messages == [b"/t.S/Added"]


def test_unknown_methods(telemetry: Telemetry) -> None:
    scenarios = (asking("unary_unary", [], "Unknown"), aio_asking("unary_unary", None, "Unknown"))
    for outcome in same_served(telemetry, *scenarios):
        assert outcome.messages == []
        assert outcome.code is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.skipif(
    not hasattr(grpc.Server, "add_registered_method_handlers"), reason="this grpcio registers no handlers"
)
def test_registered_method_handlers(telemetry: Telemetry) -> None:
    """As generated code adds them, from grpcio 1.65 on."""
    handlers = {"M": grpc.stream_stream_rpc_method_handler(lambda requests, _context: (r * 2 for r in requests))}

    def register(server: Any) -> None:
        server.add_registered_method_handlers("t.S", handlers)

    (answer,) = same_served(telemetry, asking("stream_stream", None, prepare=register))
    assert answer.messages == [b"11", b"22", b"33"]


def test_a_thread_pool_of_the_handlers_own(telemetry: Telemetry) -> None:
    def scenario() -> Answer:
        def handler(_request: bytes, _context: Any) -> bytes:
            return threading.current_thread().name.encode()

        with ThreadPoolExecutor(2, thread_name_prefix="mine") as mine:
            handler.experimental_thread_pool = mine  # type: ignore[attr-defined]
            return answering("unary_unary", handler)()

    (answer,) = same_served(telemetry, scenario)
    assert answer.messages == [b"mine_0"]


def test_non_blocking_handlers(telemetry: Telemetry) -> None:
    def sending(request: bytes, _context: Any, send: Callable[[Any], None]) -> None:
        def run() -> None:
            for message in (request, request * 2, None):
                send(message)

        threading.Thread(target=run).start()

    def raising(_request: bytes, _context: Any, _send: Callable[[Any], None]) -> None:
        raise ValueError("at once")

    for handler in (sending, raising):
        handler.experimental_non_blocking = True  # type: ignore[attr-defined]
    outcomes = same_served(telemetry, answering("unary_stream", sending), answering("unary_stream", raising))
    assert outcomes[0] == Answer([b"1", b"11"], OK, "", [])
    assert outcomes[1].code is grpc.StatusCode.UNKNOWN
    codes = [(span.attributes or {})["rpc.response.status_code"] for span in telemetry.stream_spans("server", 2)]
    assert codes == ["OK", "UNKNOWN"]

"""An order in an envelope: a message with one inside, which the demo's service lacks, and a Trade that takes it."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from otelstream.demo.v1 import ticks_pb2
from tests.zoo.expected import SERVICE
from tests.zoo.serve import KIB


def _message_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="tests/zoo/envelope.proto", package="tests.zoo", syntax="proto3")
    file.dependency.append(ticks_pb2.DESCRIPTOR.name)
    message = file.message_type.add(name="Envelope")
    kinds = descriptor_pb2.FieldDescriptorProto
    order = f".{ticks_pb2.Order.DESCRIPTOR.full_name}"
    message.field.add(name="order", number=1, type=kinds.TYPE_MESSAGE, type_name=order, label=kinds.LABEL_OPTIONAL)
    message.field.add(name="contract", number=2, type=kinds.TYPE_BYTES, label=kinds.LABEL_OPTIONAL)
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tests.zoo.Envelope"))


Envelope = _message_class()


def envelope() -> Any:
    """A small order with a large contract."""
    return Envelope(order=ticks_pb2.Order(symbol="ACME", quantity=1), contract=bytes(64 * KIB))


def add_to_server(feed: Any, server: Any) -> None:
    """Serve ``feed.Trade``, which takes envelopes."""
    handler = grpc.stream_stream_rpc_method_handler(feed.Trade, Envelope.FromString, ticks_pb2.Tick.SerializeToString)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Trade": handler}),))


def trade(channel: Any) -> Any:
    """The client's side of it."""
    return channel.stream_stream(f"/{SERVICE}/Trade", Envelope.SerializeToString, ticks_pb2.Tick.FromString)

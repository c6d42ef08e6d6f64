"""Learns a service's methods from the service itself, by gRPC server reflection.

https://github.com/grpc/grpc/blob/master/doc/server-reflection.md. ``v1`` and ``v1alpha`` are the same on the wire, and
grpcio-reflection has only the messages of the latter: so the name of the service is all that is changed between them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import grpc
from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    descriptor_pool,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    message_factory,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor import MethodDescriptor
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from otelstream.stress.target import StressError, Target

_VERSIONS = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
_NOT_THE_SERVICES_OWN = ("grpc.reflection.", "grpc.health.", "grpc.channelz.", "grpc.admin.")
_PROTOBUFS_OWN = {
    module.DESCRIPTOR.name: module.DESCRIPTOR
    for module in (
        any_pb2,
        descriptor_pb2,
        duration_pb2,
        empty_pb2,
        field_mask_pb2,
        struct_pb2,
        timestamp_pb2,
        wrappers_pb2,
    )
}
"""Some servers do not describe these files."""
_DEADLINE_S = 10.0


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC of the service."""

    name: str
    """``pkg.Service/Method``."""
    streams_requests: bool
    streams_responses: bool
    request: Any
    """The class of its requests."""
    pool: descriptor_pool.DescriptorPool
    """Where the types are that an ``Any`` in a request may name."""

    @property
    def is_unary(self) -> bool:
        """One request, one response: no stream."""
        return not (self.streams_requests or self.streams_responses)


class _Details(NamedTuple):
    """``grpc.ClientCallDetails``."""

    method: str
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: bool | None
    compression: Any


class _Adapted(grpc.StreamStreamClientInterceptor):
    """What the library's client has no arguments for: a deadline, metadata, the version of the service."""

    def __init__(self, service: str, target: Target) -> None:
        self._service = service
        self._target = target

    def intercept_stream_stream(self, continuation: Callable[..., Any], details: Any, requests: Any) -> Any:
        method = f"/{self._service}/{details.method.rpartition('/')[2]}"
        return continuation(_Details(method, _DEADLINE_S, self._target.metadata, None, None, None), requests)


class Reflection:
    """What a service says about itself."""

    def __init__(self, target: Target, channel: grpc.Channel) -> None:
        """Ask for the services. Raises ``StressError`` where nobody answers, or there is no reflection."""
        self._target = target
        self._pool = descriptor_pool.DescriptorPool()
        self._files: set[str] = set()
        for service in _VERSIONS:
            adapted = grpc.intercept_channel(channel, _Adapted(service, target))
            self._database = ProtoReflectionDescriptorDatabase(adapted)
            try:
                self.services = tuple(self._ask(self._database.get_services))
            except _Unimplemented:
                continue
            return
        raise StressError(
            f"{target.address} has no gRPC server reflection, from which its methods are learned: add it to the "
            "service (in Python: pip install grpcio-reflection, and "
            "grpc_reflection.v1alpha.reflection.enable_server_reflection(names, server))."
        )

    def streams(self) -> list[Method]:
        """The streaming methods of the service's own services."""
        own = [name for name in self.services if not name.startswith(_NOT_THE_SERVICES_OWN)]
        return [method for name in own for method in self._methods(name) if not method.is_unary]

    def method(self, name: str) -> Method:
        """The method ``pkg.Service/Method``. Raises ``StressError`` when there is none."""
        service, slash, _ = name.partition("/")
        if not slash:
            raise StressError(f"{name!r} is no method. Write --method pkg.Service/Method.")
        try:
            methods = list(self._methods(service))
        except KeyError:
            raise StressError(
                f"{self._target.address} has no service {service!r}. It has: {', '.join(self.services)}."
            ) from None
        for method in methods:
            if method.name == name:
                return method
        there = ", ".join(method.name for method in methods)
        raise StressError(f"{self._target.address} has no method {name!r}. It has: {there}.")

    def _methods(self, service: str) -> Iterator[Method]:
        """Raises ``KeyError`` when there is no such service."""
        self._add(self._ask(self._database.FindFileContainingSymbol, service))
        descriptor = self._pool.FindServiceByName(service)
        return map(self._method, descriptor.methods)

    def _method(self, descriptor: MethodDescriptor) -> Method:
        proto = descriptor_pb2.MethodDescriptorProto()
        descriptor.CopyToProto(proto)  # protobuf before 5 has no other way to tell the streams in pure Python
        return Method(
            name=f"{descriptor.containing_service.full_name}/{descriptor.name}",
            streams_requests=proto.client_streaming,
            streams_responses=proto.server_streaming,
            request=message_factory.GetMessageClass(descriptor.input_type),
            pool=self._pool,
        )

    def _add(self, file: descriptor_pb2.FileDescriptorProto) -> None:
        """Add ``file`` and before it, as the pool wants it, what it imports."""
        if file.name in self._files:
            return
        self._files.add(file.name)
        for name in file.dependency:
            self._add(self._import(name))
        self._pool.AddSerializedFile(file.SerializeToString())

    def _import(self, name: str) -> descriptor_pb2.FileDescriptorProto:
        try:
            found: descriptor_pb2.FileDescriptorProto = self._ask(self._database.FindFileByName, name)
        except KeyError:
            if name not in _PROTOBUFS_OWN:
                raise StressError(
                    f"{self._target.address} does not describe {name}, which its methods need: its reflection is "
                    "incomplete."
                ) from None
            found = descriptor_pb2.FileDescriptorProto()
            _PROTOBUFS_OWN[name].CopyToProto(found)
        return found

    def _ask(self, ask: Callable[..., Any], *arguments: str) -> Any:
        """Raises ``KeyError`` for what the service does not know, else ``StressError``."""
        try:
            return ask(*arguments)
        except grpc.RpcError as error:
            code, details = error.code(), error.details()
            if code is grpc.StatusCode.UNIMPLEMENTED:
                raise _Unimplemented from None
            raise StressError(self._refused(code, details)) from error
        except (AssertionError, StopIteration) as error:  # what the library does about an answer that is none
            raise StressError(f"{self._target.address} gave no answer to gRPC server reflection.") from error

    def _refused(self, code: grpc.StatusCode, details: str | None) -> str:
        said = f"{code.name}: {details}" if details else code.name
        instead = {
            grpc.StatusCode.UNAVAILABLE: "Start the service, or see whether it wants --tls or --plaintext.",
            grpc.StatusCode.DEADLINE_EXCEEDED: f"It took longer than {_DEADLINE_S:.0f} s.",
            grpc.StatusCode.UNAUTHENTICATED: "Give credentials with --metadata.",
            grpc.StatusCode.PERMISSION_DENIED: "Give credentials with --metadata.",
        }.get(code, "Its methods are learned by gRPC server reflection, which must work.")
        return f"{self._target.address} cannot be asked for its methods ({said}). {instead}"


class _Unimplemented(StressError):
    """The service lacks this version of reflection."""


def find_methods(target: Target, names: Sequence[str]) -> list[Method]:
    """The methods with these names, else all streaming ones. Raises ``StressError``.

    A unary method must be named: to call, say, a ``Delete`` with made-up values is nothing to do unasked.
    """
    with target.channel() as channel:
        reflection = Reflection(target, channel)
        methods = [reflection.method(name) for name in dict.fromkeys(names)] if names else reflection.streams()
    if not methods:
        raise StressError(
            f"{target.address} has no streaming method among {', '.join(reflection.services) or 'no service'}. "
            "Name a unary one with --method pkg.Service/Method."
        )
    return methods

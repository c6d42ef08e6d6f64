"""OTLP receivers: gRPC and HTTP. What they take goes to an ``Intake``; what they refuse is answered and counted."""

from otelstream.view.receive.grpc_receiver import GrpcReceiver
from otelstream.view.receive.http_receiver import HttpReceiver
from otelstream.view.receive.listening import CannotListen, PortBusy, listen

__all__ = ["CannotListen", "GrpcReceiver", "HttpReceiver", "PortBusy", "listen"]

"""Backends that take OTLP profiles, over gRPC and over HTTP, and keep what they are sent."""

from __future__ import annotations

import gzip
import ssl
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import (
    ExportProfilesServiceRequest,
    ExportProfilesServiceResponse,
)

from otelstream.testing import wait_until

_COMPRESSIONS: dict[bytes, tuple[str, Callable[[bytes], bytes]]] = {
    b"\x1f": ("gzip", gzip.decompress),
    b"\x78": ("deflate", zlib.decompress),
}
SERVICE = "opentelemetry.proto.collector.profiles.v1development.ProfilesService"
# Self-signed for 127.0.0.1, from 2020 to 2120; the key is nobody's.
KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgJnrNiuOs6fRnWKax
PISjfZreA53rf7jWmFsBjQlcSt2hRANCAAQnKrX7z2SmQLItUyBXITWTWes/8t1U
FOAJMAHJyunM2OXthx3CaplUjCkoTYGqjGs7gdv5JO84x75/gP1LC2Ok
-----END PRIVATE KEY-----
"""
CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBcDCCARWgAwIBAgIUDnqL5kBLIT+YRt6X79VLSzFaSvIwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJMTI3LjAuMC4xMCAXDTIwMDEwMTAwMDAwMFoYDzIxMjAwMTAx
MDAwMDAwWjAUMRIwEAYDVQQDDAkxMjcuMC4wLjEwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAQnKrX7z2SmQLItUyBXITWTWes/8t1UFOAJMAHJyunM2OXthx3CaplU
jCkoTYGqjGs7gdv5JO84x75/gP1LC2Oko0MwQTAPBgNVHREECDAGhwR/AAABMA8G
A1UdEwEB/wQFMAMBAf8wHQYDVR0OBBYEFJ8Gn9uUAnM+lcXoz2MthYggvqazMAoG
CCqGSM49BAMCA0kAMEYCIQDJVeP4TyPWmqRz3Lo/f8AF4ZJ6S7qtGSrYBLWWCbzE
bQIhAJ7fskpPzgTwptz466ZxlT++uoFOOI2gja4PCaJu9Iz+
-----END CERTIFICATE-----
"""


class Backend:
    """What arrived, and what is answered."""

    def __init__(self) -> None:
        self.endpoint = ""
        self.requests: list[Any] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.compressions: list[str] = []
        """As the first bytes say it."""
        self.refusal: Any = None
        """The gRPC status code, or the HTTP status, that is answered; None: all is well."""
        self.response = ExportProfilesServiceResponse()
        self.goes_on = threading.Event()
        """Not set: answers wait."""
        self.goes_on.set()

    def decode(self, body: bytes) -> Any:
        """The request in ``body``."""
        name, unpack = _COMPRESSIONS.get(body[:1], ("none", bytes))
        self.compressions.append(name)
        return ExportProfilesServiceRequest.FromString(unpack(body))

    def take(self, request: Any, headers: dict[str, str], path: str) -> None:
        """Keep a request, and wait until it is to be answered."""
        self.headers.append(headers)
        self.paths.append(path)
        self.requests.append(request)
        self.goes_on.wait(20)

    def wait_for(self, count: int) -> None:
        """Wait until there are ``count`` requests."""
        wait_until(lambda: len(self.requests) >= count, f"{count} requests")


@contextmanager
def over_grpc(port: int = 0, *, tls: bool = False) -> Iterator[Backend]:
    """A backend on a port of loopback; 0: any."""
    backend = Backend()

    def export(request: Any, context: Any) -> Any:
        backend.take(request, dict(context.invocation_metadata()), f"/{SERVICE}/Export")
        if backend.refusal is not None:
            context.abort(backend.refusal, "says the backend\x1b[31m")
        return backend.response

    handler = grpc.unary_unary_rpc_method_handler(
        export, backend.decode, ExportProfilesServiceResponse.SerializeToString
    )
    with ThreadPoolExecutor(4) as pool:
        handlers = [grpc.method_handlers_generic_handler(SERVICE, {"Export": handler})]
        server = grpc.server(pool, handlers, options=[("grpc.per_message_decompression", 0)])
        where = f"127.0.0.1:{port}"
        if tls:
            port = server.add_secure_port(where, grpc.ssl_server_credentials([(KEY.encode(), CERTIFICATE.encode())]))
        else:
            port = server.add_insecure_port(where)
        backend.endpoint = f"http{'s' * tls}://127.0.0.1:{port}"
        server.start()
        try:
            yield backend
        finally:
            backend.goes_on.set()
            server.stop(None).wait()


@contextmanager
def over_http(port: int = 0, *, tls: Path | None = None) -> Iterator[Backend]:
    """A backend on a port of loopback; 0: any. ``tls``: a folder to write the certificate to."""
    backend = Backend()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = backend.decode(self.rfile.read(int(self.headers["Content-Length"])))
            backend.take(request, {key.lower(): value for key, value in self.headers.items()}, self.path)
            self.send_response(backend.refusal or 200)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Type", "application/x-protobuf")
            self.end_headers()
            self.wfile.write(backend.response.SerializeToString())

        def log_message(self, *_args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        if tls is not None:
            (tls / "both.pem").write_text(KEY + CERTIFICATE)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls / "both.pem")
            server.socket = context.wrap_socket(server.socket, server_side=True)
        backend.endpoint = f"http{'s' * (tls is not None)}://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield backend
        finally:
            backend.goes_on.set()
            server.shutdown()
            thread.join()

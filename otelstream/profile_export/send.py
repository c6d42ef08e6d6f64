"""One export over OTLP, on a connection of its own: it is needed once a minute, and a fork finds none open.

Source: https://opentelemetry.io/docs/specs/otlp/
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

import grpc
from google.protobuf.message import DecodeError
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import (
    ExportProfilesServiceRequest,
    ExportProfilesServiceResponse,
)

from otelstream._version import __version__
from otelstream.profile_export.destination import Destination
from otelstream.report import clean

_METHOD = "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export"
_USER_AGENT = f"otelstream/{__version__}"
_RESPONSE_LIMIT = 64 * 1024
_REASON_LIMIT = 200
_GRPC_COMPRESSION = {"gzip": grpc.Compression.Gzip, "deflate": grpc.Compression.Deflate}
_HTTP_COMPRESSION: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}
_PASSING_CODES = frozenset(
    {
        *(grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.ABORTED),
        *(grpc.StatusCode.OUT_OF_RANGE, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DATA_LOSS),
    }
)
"""Those that OTLP lets a client try again, but for RESOURCE_EXHAUSTED, which also says that a profile is too large."""
_PASSING_STATUSES = frozenset(
    {
        *(HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.BAD_GATEWAY),
        *(HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT),
    }
)
_NO_SUCH_STATUSES = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED})


class NotSent(Exception):
    """Why, without a full stop."""


class TakesNone(NotSent):
    """The backend does not know profiles."""


class Away(NotSent):
    """The backend can't be reached now, or has no time."""


def send(destination: Destination, request: ExportProfilesServiceRequest) -> None:
    """Send ``request``. Raises ``NotSent``. Over HTTP the destination's timeout is for each step, as in the SDK."""
    with suppress_instrumentation():
        response = (_send_http if destination.http else _send_grpc)(destination, request)
    rejected = response.partial_success.rejected_profiles
    if rejected:
        raise NotSent(f"it rejects {rejected}{_quoted(response.partial_success.error_message)}")


def _send_grpc(destination: Destination, request: ExportProfilesServiceRequest) -> ExportProfilesServiceResponse:
    options = (("grpc.primary_user_agent", _USER_AGENT),)
    compression = _GRPC_COMPRESSION.get(destination.compression)
    if destination.insecure:
        channel = grpc.insecure_channel(destination.endpoint, options, compression)
    else:
        channel = grpc.secure_channel(destination.endpoint, _credentials(destination), options, compression)
    with channel:
        export = channel.unary_unary(
            _METHOD, ExportProfilesServiceRequest.SerializeToString, ExportProfilesServiceResponse.FromString
        )
        try:
            response: ExportProfilesServiceResponse = export(
                request, timeout=destination.timeout, metadata=tuple(destination.headers.items())
            )
        except grpc.RpcError as error:
            raise _of_code(error) from None
    return response


def _credentials(destination: Destination) -> grpc.ChannelCredentials:
    files = destination.certificate, destination.client_key, destination.client_certificate
    try:
        return grpc.ssl_channel_credentials(*(Path(file).read_bytes() if file else None for file in files))
    except OSError as error:
        raise NotSent(f"{error.filename} can't be read: {error.strerror}") from None


def _of_code(error: grpc.RpcError) -> NotSent:
    code = error.code()
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return TakesNone("it answers UNIMPLEMENTED")
    if code in _PASSING_CODES:
        return Away(code.name)
    return NotSent(f"it answers {code.name}{_quoted(error.details() or '')}")


def _send_http(destination: Destination, request: ExportProfilesServiceRequest) -> ExportProfilesServiceResponse:
    import requests  # noqa: PLC0415  # not over gRPC
    import urllib3  # noqa: PLC0415  # what requests is made of, and what reading its raw answer raises

    body, headers = request.SerializeToString(), {"User-Agent": _USER_AGENT, **destination.headers}
    headers["Content-Type"] = "application/x-protobuf"
    compress = _HTTP_COMPRESSION.get(destination.compression)
    if compress is not None:
        body = compress(body)
        headers["Content-Encoding"] = destination.compression
    certificate, key = destination.client_certificate, destination.client_key
    try:
        with requests.post(
            destination.endpoint,
            data=body,
            headers=headers,
            timeout=destination.timeout,
            verify=destination.certificate or True,
            cert=(certificate, key) if certificate and key else certificate,
            allow_redirects=False,  # it would take the headers along, and the keys that are in them
            stream=True,
        ) as response:
            status, answer = response.status_code, response.raw.read(_RESPONSE_LIMIT, decode_content=True)
    except requests.exceptions.SSLError:
        raise NotSent("its certificate, or ours, is not accepted") from None
    except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as error:
        raise Away(type(error).__name__) from None
    except (requests.RequestException, OSError) as error:  # OSError: a file with a certificate is not there
        raise NotSent(f"the request can't be made, for a {type(error).__name__}") from None
    return _read(status, answer)


def _read(status: int, answer: bytes) -> ExportProfilesServiceResponse:
    if status in _NO_SUCH_STATUSES:
        raise TakesNone(f"it answers {status}")
    if status in _PASSING_STATUSES:
        raise Away(str(status))
    if status != HTTPStatus.OK:
        raise NotSent(f"it answers {status}")
    try:
        return ExportProfilesServiceResponse.FromString(answer)
    except DecodeError:
        raise NotSent("its answer is no OTLP") from None


def _quoted(text: str) -> str:
    return f": {clean(text[:_REASON_LIMIT])}" if text else ""

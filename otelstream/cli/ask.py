"""Asks a service's debug address, or a viewer, over HTTP: an answer, or one sentence that says why there is none."""

from __future__ import annotations

import http.client
import json
import re
import socket
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from otelstream.debug.http import Address
    from otelstream.findings import LeakReport

DEBUG_TOKEN = "OTEL_PYTHON_OTELSTREAM_DEBUG_TOKEN"  # noqa: S105  # where it is, not what it is
DEBUG_DEFAULT = "127.0.0.1:6060"
"""Where `otelstream run` has a service's debug address."""
_LARGEST = 64 * 1024 * 1024


class CannotAsk(click.ClickException):
    """There is no answer to be had."""

    exit_code = 2  # 1 says that there is a leak


class NobodyThere(CannotAsk):
    """Nothing listens."""


class WrongToken(CannotAsk):
    """The token is missing or another one."""


class Stranger(CannotAsk):
    """Something else listens."""

    def __init__(self, message: str, why: str) -> None:
        """``why`` it is something else, without a full stop."""
        super().__init__(message)
        self.why = why


@dataclass(frozen=True, slots=True)
class Asked:
    """Who is asked, in the words of what can go wrong."""

    what: str
    """``otelstream debug address``."""
    who: str
    """Who has the token: ``the service``."""
    token: str
    """Variable that has it."""
    start: str
    """What to do when nothing listens, a sentence."""
    write: str
    """Which address to write, a sentence."""
    late: str = ""
    """What to do when the answer takes too long, a sentence."""

    def stranger(self, where: Address, why: str) -> Stranger:
        """What listens is not what is asked for."""
        return Stranger(f"What listens at {where} is no {self.what}: {why}. {self.write}", why)


DEBUG_ADDRESS = Asked(
    what="otelstream debug address",
    who="the service",
    token=DEBUG_TOKEN,
    start="Start the service with `otelstream run …`, or set OTEL_PYTHON_OTELSTREAM_DEBUG_ADDR.",
    write="Write the HOST:PORT of OTEL_PYTHON_OTELSTREAM_DEBUG_ADDR.",
    late="Ask again with a longer --timeout.",
)


def address(text: str) -> Address:
    """What a user wrote as HOST:PORT. Raises ``click.BadParameter``."""
    from otelstream.debug.http import parse_address  # noqa: PLC0415  # `otelstream run` is not to wait for it

    bare = text.strip().removeprefix("http://")
    if bare.startswith("https://"):
        raise click.BadParameter(
            "otelstream speaks plain HTTP. Write HOST:PORT; for another machine, use an ssh tunnel.",
            param_hint="HOST:PORT",
        )
    try:
        return parse_address(re.sub("/.*", "", bare))
    except ValueError as error:
        raise click.BadParameter(f"{error}.", param_hint="HOST:PORT") from None


def get(where: Address, path: str, asked: Asked, token: str | None, timeout: float) -> bytes:
    """The body of a good answer to ``path``. Raises ``CannotAsk``; ``timeout``: s between two signs of life."""
    response, body = _exchange(where, path, asked, token, timeout)
    if response.status == HTTPStatus.UNAUTHORIZED:
        raise WrongToken(
            f"{where} wants {'another' if token else 'a'} token. Set {asked.token} to what {asked.who} has."
        )
    if response.status != HTTPStatus.OK:
        raise _refusal(where, path, asked, response, body)
    return body


def leak_report(where: Address, asked: Asked, token: str | None, timeout: float) -> tuple[dict[str, Any], LeakReport]:
    """The report of a debug address, as it came and read. Raises ``CannotAsk``."""
    from otelstream.report import from_dict, text  # noqa: PLC0415  # see above

    body = get(where, "/leaks", asked, token, timeout)
    try:
        data = json.loads(body)
        report = from_dict(data)
        text(report)  # what can't be shown is no report either
    except (ValueError, TypeError, RecursionError):
        why = "its answer is no leak report, or one of another version of otelstream"
        raise asked.stranger(where, why) from None
    return data, report


def _exchange(
    where: Address, path: str, asked: Asked, token: str | None, timeout: float
) -> tuple[http.client.HTTPResponse, bytes]:
    # Not urllib.request, which would take a proxy, and follow a redirect with the token.
    connection = http.client.HTTPConnection(where.host, where.port, timeout=timeout)
    headers: dict[str, Any] = {"Accept": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token.strip()}".encode()
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response, response.read(_LARGEST)
    except ConnectionRefusedError:
        raise NobodyThere(f"Nothing listens at {where}. {asked.start}") from None
    except TimeoutError:
        raise CannotAsk(f"{where} has not answered for {timeout:g} s. {asked.late}".rstrip()) from None
    except (socket.gaierror, UnicodeError):
        raise CannotAsk(f"There is no host {where.host!r}. Write HOST:PORT, such as 127.0.0.1:{where.port}.") from None
    except (http.client.HTTPException, ConnectionError):
        raise asked.stranger(where, "it does not answer in HTTP") from None
    except OSError as error:
        raise CannotAsk(f"{where} can't be reached: {error.strerror}. Write HOST:PORT of what is running.") from None
    except ValueError:  # its text would quote the token
        raise CannotAsk(f"The token has a line break in it. Set {asked.token} to what {asked.who} has.") from None
    finally:
        connection.close()


def _refusal(where: Address, path: str, asked: Asked, response: http.client.HTTPResponse, body: bytes) -> CannotAsk:
    from otelstream.report import clean  # noqa: PLC0415  # see above

    ours = (
        *(HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN, HTTPStatus.INTERNAL_SERVER_ERROR),
        *(HTTPStatus.NOT_IMPLEMENTED, HTTPStatus.SERVICE_UNAVAILABLE),
    )
    if response.status in ours and (response.getheader("Content-Type") or "").startswith("text/plain"):
        return CannotAsk(f"{where} answers {response.status}: {clean(body[:500].decode(errors='replace').strip())}")
    return asked.stranger(where, f"it answers {response.status} to {path}")

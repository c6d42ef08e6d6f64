"""Who may ask the viewer: this machine only or who knows the token, and no web page but its own."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from http import HTTPStatus
from urllib.parse import parse_qsl, quote, urlencode

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from otelstream.view.intake import Intake, Reason

LOOPBACK = "127.0.0.1"
_LOOPBACK_NAMES = frozenset({"localhost", LOOPBACK, "::1"})
_TOKEN = re.compile(r"[!-~]+")
_POLICY_VIOLATION = 1008  # RFC 6455, 7.4.1


class Refused(Exception):
    """A request that is not answered with what it asks for: the status, one sentence that says why, more headers."""

    def __init__(self, status: HTTPStatus, why: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(why)
        self.status = status
        self.why = why
        self.headers = headers or {}


def is_loopback(host: str) -> bool:
    """Only this machine reaches ``host``: localhost or an IP address. Any other name may stand for any address."""
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0]).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class Access:
    """The rules for what listens on ``host``. Raises ``ValueError`` for another host than loopback without a token."""

    def __init__(self, host: str = LOOPBACK, token: str | None = None) -> None:
        self.token = (token or "").strip() or None
        if self.token is None and not is_loopback(host):
            raise ValueError(
                f"others could reach {host}, send what they like and read what the services do: set a token, or listen "
                f"on {LOOPBACK}"
            )
        if self.token is not None and not _TOKEN.fullmatch(self.token):
            raise ValueError(
                "the token has a character that a header cannot carry: use letters, digits and punctuation of ASCII, "
                "without spaces"
            )
        self._hosts = _LOOPBACK_NAMES | {host.strip("[]").lower()}

    def middleware(self, app: ASGIApp, intake: Intake | None = None) -> ASGIApp:
        """``app``, the page, for those who may see it. Refusals are counted in ``intake``, when there is one."""
        return _Middleware(app, self, intake)

    def check(self, headers: Headers) -> None:
        """Refuse who is not allowed to ask, as ``check_site`` and ``check_bearer``. Raises ``Refused``."""
        self.check_site(headers)
        self.check_bearer(headers.get("authorization", ""))

    def check_site(self, headers: Headers) -> None:
        """Refuse other web pages, which can reach this machine through its user's browser. Raises ``Refused``.

        A page of another site says so in Origin and Sec-Fetch-Site, which no script can change. Without a token the
        host must be loopback's: a page can have its own name resolve to 127.0.0.1 (DNS rebinding), but its browser then
        sends that name. A link that is followed to here is no such request.
        """
        hosts = headers.getlist("host")
        if self.token is None and (len(hosts) != 1 or _host_of(hosts[0]) not in self._hosts):
            raise Refused(
                HTTPStatus.FORBIDDEN,
                "The Host header names another host than this machine, as when a web page reaches for its services. "
                "Ask for localhost, 127.0.0.1 or [::1].",
            )
        origins = headers.getlist("origin")
        is_ours = all(origin.partition("://")[2].lower() == headers.get("host", "").lower() for origin in origins)
        is_link = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
        if not is_ours or (headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not is_link):
            raise Refused(
                HTTPStatus.FORBIDDEN,
                "A web page of another site asks, and only the viewer's own page may. Send from a program or through "
                "a Collector.",
            )

    def check_bearer(self, authorization: str) -> None:
        """Refuse who has not the token, when there is one. Raises ``Refused``."""
        if self.token is None:
            return
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() != "bearer" or not _same(given.strip(), self.token):
            raise Refused(
                HTTPStatus.UNAUTHORIZED,
                "The token is missing or wrong. Send it as `Authorization: Bearer TOKEN`: an OpenTelemetry SDK does "
                'with OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20TOKEN".',
                {"WWW-Authenticate": 'Bearer realm="otelstream"'},
            )


class _Middleware:
    """The rules in front of the page, for HTTP and websockets: the token comes as a header, in ``?token=`` or a cookie.

    ``?token=`` is asked for once: the answer sets a cookie and leads to the same page without it, so that it stays
    neither in the address bar nor in what the page links to.
    """

    def __init__(self, app: ASGIApp, access: Access, intake: Intake | None) -> None:
        self._app = app
        self._access = access
        self._intake = intake

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        try:
            app = self._check(scope)
        except Refused as refused:
            if self._intake is not None:
                self._intake.count(Reason.REFUSED, example=f"the page: {refused.status.phrase}")
            app = _refusal(scope, refused)
        await app(scope, receive, send)

    def _check(self, scope: Scope) -> ASGIApp:
        """What answers. Raises ``Refused``."""
        headers = Headers(scope=scope)
        self._access.check_site(headers)
        token = self._access.token
        if token is None:
            return self._app
        # Cookies are sent to every port of a host: the name tells two viewers apart, and the value is not the token,
        # which the other ports need not learn.
        name = f"otelstream_view_{scope['server'][1]}"
        value = hmac.new(token.encode(), b"cookie of the page", hashlib.sha256).hexdigest()
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = dict(query).get("token")
        if given is not None and scope["type"] == "http" and scope["method"] in ("GET", "HEAD") and _same(given, token):
            return _signed_in(scope["path"], [pair for pair in query if pair[0] != "token"], name, value)
        if not _same(cookie_parser(headers.get("cookie", "")).get(name, ""), value):
            try:
                self._access.check_bearer(headers.get("authorization", ""))
            except Refused as refused:
                raise Refused(
                    refused.status,
                    "The token is missing or wrong. Open this page as its first line in the terminal says, with "
                    "?token=TOKEN at the end; a program sends `Authorization: Bearer TOKEN`.",
                    refused.headers,
                ) from None
        return self._app


def _signed_in(path: str, query: list[tuple[str, str]], name: str, value: str) -> ASGIApp:
    # One slash: a browser takes what begins with two for the name of another host.
    target = "/" + quote(path.lstrip("/")) + (f"?{urlencode(query)}" if query else "")
    response = RedirectResponse(
        target, HTTPStatus.SEE_OTHER, {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    )
    response.set_cookie(name, value, httponly=True, samesite="strict")
    return response


def _refusal(scope: Scope, refused: Refused) -> ASGIApp:
    # Without the extension, a websocket that is closed before it was accepted is answered with 403.
    if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
        return _close
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **refused.headers}
    return PlainTextResponse(f"{refused.why}\n", refused.status, headers)


async def _close(_scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": ""})


def _host_of(header: str) -> str:
    return re.sub(r":\d*\Z", "", header).strip("[]").lower()


def _same(given: str, expected: str) -> bool:
    # As bytes: of text, only ASCII can be compared in constant time.
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), expected.encode())

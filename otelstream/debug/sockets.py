"""The sockets of the debug address: listening, accepting, and reading a request head, each within its bounds."""

from __future__ import annotations

import errno
import ipaddress
import selectors
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus

from otelstream.debug.http import HEAD_LIMIT, Address, Refused, parse_request_line

_BACKLOG = 64
_PAUSE_S = 0.5
"""Before it is tried again to accept, when the process has no file descriptor left for it."""
_DRAINED = 1024 * 1024
"""By that a refused client may still send, and"""
_DRAINED_S = 1.0
"""s that it has for it, so that it reads the refusal before the connection is gone."""
_VARIABLE = "OTEL_PYTHON_OTELSTREAM_DEBUG_ADDR"


class CannotListen(Exception):
    """Why, and what to set instead."""


def listen(address: Address, *, needs_loopback: bool) -> socket.socket:
    """A listening socket, on IPv4 where a name has both. Raises ``CannotListen``."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or "no such host"
        raise CannotListen(f"{why}. Set {_VARIABLE} to an address of this machine") from None
    family, _, _, _, sockaddr = min(found, key=lambda each: each[0] != socket.AF_INET)
    if needs_loopback and not is_loopback(str(sockaddr[0])):
        raise CannotListen(
            "others could reach it and read what this process does. "
            f"Set OTEL_PYTHON_OTELSTREAM_DEBUG_TOKEN, or {_VARIABLE}=127.0.0.1:{address.port}"
        )
    try:
        return socket.create_server(sockaddr, family=family, backlog=_BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise CannotListen(
                f"the port is taken. Set {_VARIABLE} to another one, or to {Address(address.host, 0)} for any free one"
            ) from None
        raise CannotListen(f"{error.strerror}. Set {_VARIABLE} to an address of this machine") from None


def is_loopback(host: str) -> bool:
    """Only this machine reaches the IP address ``host``."""
    return ipaddress.ip_address(host.partition("%")[0]).is_loopback


class Listening:
    """A daemon thread that hands each new connection to ``accepted``, which may neither raise nor block."""

    def __init__(self, listener: socket.socket, accepted: Callable[[socket.socket], None]) -> None:
        self._listener = listener
        self._accepted = accepted
        self._stopping = threading.Event()
        self._woken, self._wake = socket.socketpair()
        self.port: int = listener.getsockname()[1]
        listener.setblocking(False)

    def start(self) -> None:
        """Start to accept. Raises ``RuntimeError`` where no thread can be started."""
        self._thread = threading.Thread(target=self._loop, name="otelstream-debug", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Accept no more, and wait for the thread."""
        self._stopping.set()
        self._wake.send(b"\0")
        self._thread.join()
        self.close()

    def close(self) -> None:
        """Close the sockets: those of this process only, in a forked child."""
        for each in (self._listener, self._woken, self._wake):
            each.close()

    def _loop(self) -> None:
        # Not epoll: a forked child would share its registrations with its parent.
        with getattr(selectors, "PollSelector", selectors.SelectSelector)() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while not self._stopping.is_set():
                selector.select()
                try:
                    connection, _ = self._listener.accept()
                except (BlockingIOError, ConnectionError):  # woken, or the client has gone again
                    continue
                except OSError:
                    self._stopping.wait(_PAUSE_S)
                    continue
                self._accepted(connection)


def read_head(connection: socket.socket, timeout: float) -> bytes:
    """A request's line and headers, without the empty line.

    Raises ``Refused`` when it is too long, too slow (``timeout`` s for all of it) or no HTTP, and ``OSError`` when
    nothing came.
    """
    deadline = time.monotonic() + timeout
    head = bytearray()
    line_checked = False
    while (end := head.find(b"\r\n\r\n")) < 0:
        if len(head) > HEAD_LIMIT:
            raise Refused(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"The request head is longer than {HEAD_LIMIT} bytes."
            )
        try:
            received = _receive(connection, deadline)
        except TimeoutError:
            if not head:
                raise
            raise Refused(HTTPStatus.REQUEST_TIMEOUT, f"The request was not there after {timeout:g} s.") from None
        if not received:
            if not head:
                raise ConnectionAbortedError
            raise Refused(HTTPStatus.BAD_REQUEST, "The request ends before its empty line.")
        head += received
        if not line_checked and (b"\n" in head or not head[:1].isalpha()):  # what is no HTTP may have no end
            parse_request_line(bytes(head).partition(b"\r\n")[0].decode("latin-1"))
            line_checked = True
    return bytes(head[:end])


def drain(connection: socket.socket) -> None:
    """Read what a refused client still sends: closing a socket with unread data resets the connection."""
    deadline = time.monotonic() + _DRAINED_S
    left = _DRAINED
    with suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        while left > 0 and (received := _receive(connection, deadline)):
            left -= len(received)


def _receive(connection: socket.socket, deadline: float) -> bytes:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    connection.settimeout(left)
    return connection.recv(65536)


def refuse_at_once(connection: socket.socket, answer: bytes) -> None:
    """Send ``answer`` and close, without waiting for anything."""
    with connection, suppress(OSError):
        connection.setblocking(False)
        connection.send(answer)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(65536)  # else it is reset, see drain()

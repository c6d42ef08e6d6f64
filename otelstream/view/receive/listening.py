"""Listening: one viewer per port, and the reason when it cannot."""

from __future__ import annotations

import errno
import socket
from typing import Any

_BACKLOG = 128


class CannotListen(OSError):
    """Why, in one sentence."""


class PortBusy(CannotListen):
    """Somebody else listens on ``port``."""

    def __init__(self, port: int) -> None:
        super().__init__(errno.EADDRINUSE, f"port {port} is taken")
        self.port = port


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on ``host`` and ``port``, 0 for any. Raises ``CannotListen``, ``PortBusy``."""
    listener = bind(host, port)
    try:
        listener.listen(_BACKLOG)
    except OSError as error:  # somebody was faster
        listener.close()
        raise _reason(error, host, port) from None
    return listener


def bind(host: str, port: int) -> socket.socket:
    """A socket that has the address and does not listen. Raises ``CannotListen``, ``PortBusy``."""
    family, sockaddr = _resolve(host, port)
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Without it, a viewer that is started again waits out the connections of the one before. It shares no port.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(sockaddr)
    except OSError as error:
        bound.close()
        raise _reason(error, host, port) from None
    return bound


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    """Where ``host`` is, on IPv4 where a name has both."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, OverflowError) as error:
        raise CannotListen(
            errno.EADDRNOTAVAIL,
            f"{getattr(error, 'strerror', None) or 'no such host'}: {host} is no address of this machine",
        ) from None
    family, _, _, _, sockaddr = min(found, key=lambda each: each[0] != socket.AF_INET)
    return family, sockaddr


def _reason(error: OSError, host: str, port: int) -> CannotListen:
    if error.errno == errno.EADDRINUSE:
        return PortBusy(port)
    return CannotListen(error.errno, f"{error.strerror}: cannot listen on {host}, port {port}")

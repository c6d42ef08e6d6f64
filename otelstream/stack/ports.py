"""Which ports the stack needs, and who has them already."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple


class Port(NamedTuple):
    """A port of this machine that a service publishes."""

    service: str
    host: str
    number: int


def published(config: Mapping[str, Any]) -> list[Port]:
    """The ports in what ``docker compose config --format json`` prints."""
    return [
        Port(name, port.get("host_ip", "0.0.0.0"), int(port["published"]))  # noqa: S104  # Docker's default, read here
        for name, service in config["services"].items()
        for port in service.get("ports", ())
        if port.get("published")
    ]


def busy(ports: Iterable[Port]) -> list[Port]:
    """Those that somebody listens on."""
    return [port for port in ports if _is_busy(port)]


def _is_busy(port: Port) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in port.host else socket.AF_INET) as probe:
        # Else a connection that has just been closed would look like a listener.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((port.host, port.number))
            # Two sockets may be bound with the option above, but only one may listen.
            probe.listen(1)
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def _meet(theirs: str, ours: str) -> bool:
    """Whether somebody who listens on one address is in the way of the other."""
    theirs = theirs.removeprefix("::ffff:")  # an IPv4 address as IPv6 writes it: Java listens so
    return theirs == ours or not {theirs, ours}.isdisjoint(("0.0.0.0", "::"))  # noqa: S104  # compared, not listened on


def owner(port: Port) -> str:
    """Who listens on a port, for a person to read; how to find out, where that is not ours to see."""
    import psutil  # noqa: PLC0415  # `otelstream run` is not to wait for it

    try:
        listeners = [
            connection.pid
            for connection in psutil.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN
            and connection.laddr
            and connection.laddr.port == port.number
            and _meet(connection.laddr.ip, port.host)
        ]
        pid = next((pid for pid in listeners if pid is not None), None)
        if pid is not None:
            process = psutil.Process(pid)
            command = " ".join(process.cmdline())[:100]
            return f"process {pid}, {command or process.name()}"
    except psutil.Error:
        pass
    return f"a process that is not yours to see (sudo lsof -iTCP:{port.number} -sTCP:LISTEN names it)"

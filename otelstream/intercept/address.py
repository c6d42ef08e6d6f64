"""Addresses as gRPC writes them, to the host and port of the semantic conventions."""

from __future__ import annotations

from urllib.parse import unquote

Address = tuple[str, int | None]


def of_target(target: str) -> Address | None:
    """The server that a channel's target names (gRPC name resolution: ``host:port``, ``dns:///host:port``, ``unix:…``).

    >>> of_target("dns:///prices.example:443")
    ('prices.example', 443)
    """
    scheme, found, rest = target.partition(":")
    if found and scheme in ("unix", "unix-abstract"):
        return rest.removeprefix("//"), None
    if "://" in target:
        target = target.split("://", 1)[1].split("/", 1)[-1]
    elif found and scheme in ("dns", "ipv4", "ipv6", "passthrough"):
        target = rest.split(",")[0]
    return _host_port(target)


def of_peer(peer: str) -> Address | None:
    """The other end of a server's connection, from ``context.peer()``.

    >>> of_peer("ipv6:%5B::1%5D:57284")
    ('::1', 57284)
    """
    scheme, _, rest = peer.partition(":")
    if scheme in ("ipv4", "ipv6"):
        return _host_port(unquote(rest.split(",")[0]))
    if scheme in ("unix", "unix-abstract"):
        return (rest, None) if rest else None
    return None


def _host_port(text: str) -> Address | None:
    host, _, port = text.rpartition(":")
    if port.isdecimal() and host and (host.startswith("[") or ":" not in host):
        return host.strip("[]"), int(port)
    return (text.strip("[]"), None) if text else None

"""What the attributes of an RPC's span say of the call, in any of their spellings.

Sources: OpenTelemetry semantic conventions, "RPC": v1.40 (``rpc.system.name``), and those before it (``rpc.system``,
``net.peer.*``), which most instrumentations still write.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from otelstream import semconv
from otelstream.record import Outcome
from otelstream.view.extract.attributes import text

_CODE_OF_NUMBER = {str(number): name for name, number in semconv.CODE_NUMBERS.items()}
_OUTCOMES = {outcome.value for outcome in Outcome}
_STATUS_CODE_RENAMED = "rpc.status_code"
_CONNECT_CODE = "rpc.connect_rpc.error_code"
_OLD_SOCK_PEER_ADDR, _OLD_SOCK_PEER_PORT = "net.sock.peer.addr", "net.sock.peer.port"
_CLIENT_ADDRESS, _CLIENT_PORT = "client.address", "client.port"

_NETWORK_PEER = (semconv.NETWORK_PEER_ADDRESS, semconv.NETWORK_PEER_PORT)
_OLD_SOCKET = (_OLD_SOCK_PEER_ADDR, _OLD_SOCK_PEER_PORT)
_OLD_PEER = (semconv.OLD_NET_PEER_IP, semconv.OLD_NET_PEER_PORT)
_OLD_NAME = (semconv.OLD_NET_PEER_NAME, semconv.OLD_NET_PEER_PORT)
_PEERS = {
    "server": (_NETWORK_PEER, (_CLIENT_ADDRESS, _CLIENT_PORT), _OLD_SOCKET, _OLD_PEER, _OLD_NAME),
    "client": ((semconv.SERVER_ADDRESS, semconv.SERVER_PORT), _OLD_NAME, _NETWORK_PEER, _OLD_SOCKET, _OLD_PEER),
}
_CODES = (semconv.RPC_STATUS_CODE, _STATUS_CODE_RENAMED, semconv.OLD_RPC_GRPC_STATUS_CODE, _CONNECT_CODE)

NAMES = frozenset(
    {semconv.RPC_SYSTEM_NAME, semconv.OLD_RPC_SYSTEM, semconv.RPC_METHOD, semconv.OLD_RPC_SERVICE}
    | {semconv.OUTCOME, *_CODES}
    | {name for pairs in _PEERS.values() for pair in pairs for name in pair}
)
"""The attributes read here."""


def method_of(attributes: Mapping[str, Any], span_name: str) -> str:
    """``pkg.Service/Method``."""
    method = text(attributes.get(semconv.RPC_METHOD)).lstrip("/")
    service = text(attributes.get(semconv.OLD_RPC_SERVICE))
    if method and "/" not in method and service:
        return text(f"{service}/{method}")
    return method or text(span_name.lstrip("/"))


def peer_of(attributes: Mapping[str, Any], side: str) -> str:
    """``address:port`` of the other end; empty when it is not told, or when ``side`` is not known."""
    for address_name, port_name in _PEERS.get(side, ()):
        address = text(attributes.get(address_name))
        if address:
            port = text(attributes.get(port_name))
            if port and ":" in address and not address.startswith("["):
                address = f"[{address}]"
            return text(f"{address}:{port}" if port else address)
    return ""


def code_of(attributes: Mapping[str, Any]) -> str:
    """The status code by its name; empty when there is none. Old spans have the number, some have it as a string."""
    for name in _CODES:
        code = text(attributes.get(name))
        if code:
            return _CODE_OF_NUMBER.get(code) or code.upper()
    return ""


def outcome_of(attributes: Mapping[str, Any], code: str, *, has_failed: bool) -> str:
    """One of ``record.Outcome``'s values. ``has_failed``: the span's own status, for calls without a code."""
    told = attributes.get(semconv.OUTCOME)
    if told in _OUTCOMES:
        return str(told)
    if code:
        return str(Outcome.of(code).value)
    return str((Outcome.ERROR if has_failed else Outcome.OK).value)


def is_rpc(attributes: Mapping[str, Any]) -> bool:
    """Any RPC system."""
    return semconv.RPC_SYSTEM_NAME in attributes or semconv.OLD_RPC_SYSTEM in attributes


def count_messages(events: Iterable[Any]) -> tuple[int, int]:
    """Messages (sent, received) that a span without totals has events for; old ones are called ``message``."""
    counts = {"SENT": 0, "RECEIVED": 0}
    for event in events:
        if event.name in (semconv.MESSAGE_EVENT, "message"):
            for attribute in event.attributes:
                if attribute.key in (semconv.MESSAGE_TYPE, "message.type"):
                    direction = attribute.value.string_value
                    if direction in counts:
                        counts[direction] += 1
    return counts["SENT"], counts["RECEIVED"]

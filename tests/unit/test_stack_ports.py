"""Which ports the stack needs and who has them: real sockets, of this process and of another."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from otelstream.stack import ports
from otelstream.stack.ports import Port

LISTENS = """
import socket, sys; s = socket.create_server((sys.argv[1], int(sys.argv[2])))
print(s.getsockname()[1], flush=True); sys.stdin.read()
""".strip()
ME = f"process {os.getpid()}, "
NOT_TOLD = "a process that is not yours to see (sudo lsof -iTCP:{0} -sTCP:LISTEN names it)"


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


NEEDS_IPV6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")


def at(number: int, host: str = "127.0.0.1") -> Port:
    return Port("jaeger", host, number)


def busy(number: int, host: str = "127.0.0.1") -> bool:
    port = at(number, host)
    found = ports.busy([port])
    assert found in ([], [port])
    return bool(found)


def test_the_ports_in_a_configuration() -> None:
    """Compose gives numbers as text, and leaves out an address that is not in the file."""
    config = {
        "services": {
            "jaeger": {
                "ports": [
                    {"mode": "ingress", "host_ip": "127.0.0.1", "target": 1, "published": "4317", "protocol": "tcp"},
                    {"mode": "ingress", "host_ip": "::1", "target": 1, "published": "4318", "protocol": "tcp"},
                ]
            },
            "prometheus": {"ports": [{"target": 9090, "published": "9090"}, {"target": 9091}]},
            "grafana": {},
        }
    }
    assert ports.published(config) == [
        Port("jaeger", "127.0.0.1", 4317),
        Port("jaeger", "::1", 4318),
        Port("prometheus", "0.0.0.0", 9090),
    ]


def test_a_port_is_busy_while_somebody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as other:
        number = server.getsockname()[1]
        theirs = Port("jaeger", "127.0.0.1", number)
        others = Port("grafana", "127.0.0.1", other.getsockname()[1])
        assert ports.busy([others, theirs]) == [others, theirs]
        server.close()
        assert ports.busy([others, theirs]) == [others]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere both can listen")
@pytest.mark.parametrize("host", ["0.0.0.0", pytest.param("::", marks=NEEDS_IPV6)])
def test_who_listens_on_every_address_is_in_the_way(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family, dualstack_ipv6=family == socket.AF_INET6) as server:
        assert busy(server.getsockname()[1])


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere this machine has one such address")
def test_who_listens_on_another_address_is_not() -> None:
    with socket.create_server(("127.0.0.2", 0)) as server:
        number = server.getsockname()[1]
        assert busy(number, "127.0.0.2")
        assert not busy(number)


@NEEDS_IPV6
def test_a_port_of_ipv6_is_another_one() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        number = server.getsockname()[1]
        assert busy(number, "::1")
        assert not busy(number)
    assert not busy(number, "::1")


def test_a_connection_that_has_ended_does_not_keep_its_port_busy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        with socket.create_connection(address):
            server.accept()[0].close()  # the end that closes first stays in TIME_WAIT
    with socket.socket() as plain, pytest.raises(OSError, match="in use"):
        plain.bind(address)
    assert not busy(address[1])


def test_asking_leaves_the_port_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
    assert not busy(address[1])
    with socket.socket() as plain:
        plain.bind(address)


# Who it is


@contextmanager
def another_process(host: str, number: int = 0) -> Iterator[tuple[int, int]]:
    """One that listens there: its id, and its port."""
    with subprocess.Popen(
        [sys.executable, "-S", "-c", LISTENS, host, str(number)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline())


def test_another_process_is_named_with_its_command() -> None:
    with another_process("127.0.0.1") as (pid, number):
        assert busy(number)
        command = f"{sys.executable} -S -c {LISTENS}"
        assert ports.owner(at(number)) == f"process {pid}, {command[:100]}"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere this machine has one such address")
def test_the_owner_is_the_one_on_that_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.getsockname()[1]
        with another_process("127.0.0.2", number) as (pid, _):
            assert ports.owner(at(number, "127.0.0.1")).startswith(ME)
            assert ports.owner(at(number, "127.0.0.2")).startswith(f"process {pid}, ")


@pytest.mark.parametrize("host", ["0.0.0.0", pytest.param("::", marks=NEEDS_IPV6)])
def test_who_listens_on_every_address_is_the_owner_on_each(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family, dualstack_ipv6=family == socket.AF_INET6) as server:
        assert ports.owner(at(server.getsockname()[1])).startswith(ME)


def test_where_every_address_is_needed_whoever_has_one_is_the_owner() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.getsockname()[1]
        assert ports.owner(at(number, "0.0.0.0")).startswith(ME)


@NEEDS_IPV6
def test_an_ipv4_address_may_be_written_as_ipv6() -> None:
    """Java listens so."""
    with socket.socket(socket.AF_INET6) as server:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        server.bind(("::ffff:127.0.0.1", 0))
        server.listen()
        number = server.getsockname()[1]
        assert busy(number)
        assert ports.owner(at(number)).startswith(ME)


def test_who_only_talks_over_a_port_is_not_its_owner() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        number = client.getsockname()[1]
        assert ports.owner(at(number)) == NOT_TOLD.format(number)


def test_an_owner_that_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(kind: str) -> None:
        raise psutil.AccessDenied  # as on macOS for all but root

    monkeypatch.setattr(psutil, "net_connections", denied)
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.getsockname()[1]
        assert ports.owner(at(number)) == NOT_TOLD.format(number)

"""gRPC's spellings of addresses."""

from __future__ import annotations

import pytest

from otelstream.intercept import address


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("localhost:50051", ("localhost", 50051)),
        ("prices.example", ("prices.example", None)),
        ("dns:///prices.example:443", ("prices.example", 443)),
        ("dns://8.8.8.8/prices.example:443", ("prices.example", 443)),
        ("dns:prices.example:443", ("prices.example", 443)),
        ("ipv4:10.0.0.1:80,10.0.0.2:80", ("10.0.0.1", 80)),
        ("ipv6:[2607:f8b0::1]:443", ("2607:f8b0::1", 443)),
        ("[::1]:443", ("::1", 443)),
        ("::1", ("::1", None)),
        ("unix:/run/prices.sock", ("/run/prices.sock", None)),
        ("unix:///run/prices.sock", ("/run/prices.sock", None)),
        ("unix-abstract:prices", ("prices", None)),
        ("passthrough:///localhost:1", ("localhost", 1)),
        ("xds:///prices", ("prices", None)),
        ("", None),
    ],
)
def test_of_target(target: str, expected: address.Address | None) -> None:
    assert address.of_target(target) == expected


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        ("ipv4:127.0.0.1:57284", ("127.0.0.1", 57284)),
        ("ipv6:%5B::1%5D:57284", ("::1", 57284)),
        ("ipv6:[::1]:57284", ("::1", 57284)),
        ("ipv4:10.2.1.1:57284,127.0.0.1:57284", ("10.2.1.1", 57284)),
        ("unix:", None),
        ("unix:/run/a.sock", ("/run/a.sock", None)),
        ("something new", None),
    ],
)
def test_of_peer(peer: str, expected: address.Address | None) -> None:
    assert address.of_peer(peer) == expected

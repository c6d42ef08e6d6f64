"""Where `otelstream stress` goes, and what it sends along."""

from __future__ import annotations

from pathlib import Path

import pytest

from otelstream.stress.target import StressError, Target, parse_metadata, split_address, tls_credentials


@pytest.mark.parametrize(
    ("address", "parts", "is_local"),
    [
        ("localhost:50051", ("localhost", 50051), True),
        ("127.0.0.5:1", ("127.0.0.5", 1), True),
        ("[::1]:65535", ("::1", 65535), True),
        ("10.0.0.1:80", ("10.0.0.1", 80), False),
        ("localhost.example.org:80", ("localhost.example.org", 80), False),
    ],
)
def test_an_address(address: str, parts: tuple[str, int], is_local: bool) -> None:
    assert split_address(address) == parts
    assert Target(address).is_local is is_local


@pytest.mark.parametrize("address", ["localhost", "localhost:", ":", "a:0", "a:65536", "a:8o", "http://a:80", "a:-1"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(StressError, match=r"is no HOST:PORT\. Write one like localhost:50051"):
        split_address(address)


def test_metadata() -> None:
    assert parse_metadata(["Authorization=Bearer a=b", "trace-bin=AAE="]) == (
        ("authorization", "Bearer a=b"),
        ("trace-bin", b"\x00\x01"),
    )


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ("secret", "Metadata number 1 is no KEY=VALUE"),
        ("a key=secret", "'a key' is no key for metadata"),
        ("grpc-timeout=secret", "is no key for metadata"),
        ("=secret", "is no key for metadata"),
        ("a=secret\n", "The value of the metadata 'a' is not printable ASCII"),
        ("a-bin=secret!", "The value of the metadata 'a-bin' is not base64"),
    ],
)
def test_metadata_that_gRPC_would_refuse_is_told_without_its_value(item: str, says: str) -> None:
    with pytest.raises(StressError, match=says) as raised:
        parse_metadata([item])
    assert "secret" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_the_metadata_is_not_in_what_a_target_looks_like() -> None:
    assert "secret" not in repr(Target("a:1", None, parse_metadata(["a=secret"])))


def test_certificates_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(StressError, match=r"none\.pem cannot be read: No such file"):
        tls_credentials(tmp_path / "none.pem")

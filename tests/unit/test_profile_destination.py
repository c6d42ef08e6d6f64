"""Where profiles are sent: what the variables say, and what is said of those that can't be used."""

from __future__ import annotations

import pytest

from otelstream.profile_export.destination import Destination, read

PREFIX = "OTEL_EXPORTER_OTLP_"
DEFAULT = Destination(
    http=False,
    endpoint="localhost:4317",
    insecure=True,
    headers={},
    timeout=10.0,
    compression="none",
    certificate=None,
    client_certificate=None,
    client_key=None,
)


def of(**settings: str) -> Destination:
    return read({f"{PREFIX}{name}": value for name, value in settings.items()})


def test_defaults_are_those_of_the_sdk() -> None:
    assert read({}) == DEFAULT
    assert of(PROTOCOL="http/protobuf").endpoint == "http://localhost:4318/v1development/profiles"


def test_values_are_read() -> None:
    assert of(
        PROTOCOL=" http/protobuf ",
        ENDPOINT="https://otlp.example/base/",
        HEADERS="api-key=s%20x,Other=1",
        TIMEOUT="2.5",
        COMPRESSION="GZIP",
        CERTIFICATE="ca.pem",
        CLIENT_CERTIFICATE="me.pem",
        CLIENT_KEY="me.key",
    ) == Destination(
        http=True,
        endpoint="https://otlp.example/base/v1development/profiles",
        insecure=False,
        headers={"api-key": "s x", "other": "1"},
        timeout=2.5,
        compression="gzip",
        certificate="ca.pem",
        client_certificate="me.pem",
        client_key="me.key",
    )


def test_the_profiles_own_variables_go_first_and_their_endpoint_is_whole() -> None:
    found = of(
        PROTOCOL="grpc",
        PROFILES_PROTOCOL="http/protobuf",
        ENDPOINT="http://collector:4317",
        PROFILES_ENDPOINT="http://pyroscope:4040/v1development/profiles",
        TIMEOUT="1",
        PROFILES_TIMEOUT="2",
        HEADERS="a=1",
        PROFILES_HEADERS="b=2",
    )
    assert (found.endpoint, found.timeout) == ("http://pyroscope:4040/v1development/profiles", 2.0)
    assert found.headers == {"b": "2"}


@pytest.mark.parametrize(
    ("endpoint", "told", "target", "insecure"),
    [
        ("http://collector:4317", "", "collector:4317", True),
        ("http://collector:4317", "false", "collector:4317", False),
        ("https://collector:4317", "", "collector:4317", False),
        ("https://collector:4317", "true", "collector:4317", False),
        ("collector:4317", "", "collector:4317", False),
        ("collector:4317", "True", "collector:4317", True),
        ("unix:/run/otlp.sock", "true", "unix:/run/otlp.sock", True),
    ],
)
def test_what_grpc_connects_to_and_whether_with_tls(endpoint: str, told: str, target: str, insecure: bool) -> None:
    found = of(ENDPOINT=endpoint, INSECURE=told)
    assert (found.endpoint, found.insecure) == (target, insecure)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            {"PROTOCOL": "http/json"},
            "OTEL_EXPORTER_OTLP_PROTOCOL='http/json' is not used for profiles: it must be grpc or http/protobuf",
        ),
        (
            {"PROFILES_COMPRESSION": "zstd"},
            "OTEL_EXPORTER_OTLP_PROFILES_COMPRESSION='zstd' is not used for profiles: it must be gzip, deflate or none",
        ),
        (
            {"TIMEOUT": "soon"},
            "OTEL_EXPORTER_OTLP_TIMEOUT='soon' is not used for profiles: it must be a number of seconds above 0",
        ),
        (
            {"TIMEOUT": "0"},
            "OTEL_EXPORTER_OTLP_TIMEOUT='0' is not used for profiles: it must be a number of seconds above 0",
        ),
        (
            {"PROTOCOL": "http/protobuf", "ENDPOINT": "me:secret@collector:4318"},
            "OTEL_EXPORTER_OTLP_ENDPOINT is not used for profiles: over HTTP it must be a URL, such as "
            "http://localhost:4318",
        ),
    ],
)
def test_what_is_wrong_is_said_by_the_variables_name(settings: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match="is not used") as raised:
        of(**settings)
    assert str(raised.value) == says


@pytest.mark.parametrize(
    ("protocol", "endpoint", "shown"),
    [
        ("http/protobuf", "https://me:secret@otlp.example:4318/x?key=secret#secret", "https://otlp.example:4318/x"),
        ("grpc", "http://me:secret@collector:4317/path", "collector:4317"),
        ("grpc", "unix:/run/otlp.sock", "unix:/run/otlp.sock"),
        ("grpc", "http://[::1]:4317", "[::1]:4317"),
    ],
)
def test_no_secret_is_shown(protocol: str, endpoint: str, shown: str) -> None:
    assert of(PROFILES_PROTOCOL=protocol, PROFILES_ENDPOINT=endpoint).shown == shown


@pytest.mark.parametrize("name", ["CLIENT_KEY", "CLIENT_CERTIFICATE"])
def test_a_key_without_its_certificate_is_refused_before_grpc_ends_the_process(name: str) -> None:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://localhost:4317", f"OTEL_EXPORTER_OTLP_{name}": "client.pem"}
    with pytest.raises(ValueError, match=r"CLIENT_KEY and its certificate, .*CLIENT_CERTIFICATE, must both be set"):
        read(env)

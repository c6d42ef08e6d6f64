"""The lines to copy that send the first stream to a viewer."""

from __future__ import annotations

import pytest

from otelstream.view.viewer import Settings, first_lines


@pytest.mark.parametrize(
    ("host", "port", "token", "line"),
    [
        ("127.0.0.1", 4317, None, "otelstream run python server.py"),
        ("localhost", 4317, None, "otelstream run python server.py"),
        ("::1", 5000, None, "otelstream run --endpoint http://localhost:5000 python server.py"),
        ("0.0.0.0", 4317, "t", "HEADERS otelstream run --endpoint http://localhost:4317 python server.py"),
        ("10.0.0.7", 4317, "t", "HEADERS otelstream run --endpoint http://10.0.0.7:4317 python server.py"),
        ("[fd00::7]", 4317, "t", "HEADERS otelstream run --endpoint http://[fd00::7]:4317 python server.py"),
        ("127.0.0.2", 4317, None, "otelstream run --endpoint http://127.0.0.2:4317 python server.py"),
    ],
)
def test_they_name_where_it_listens(host: str, port: int, token: str | None, line: str) -> None:
    headers = 'OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20$OTEL_PYTHON_OTELSTREAM_VIEW_TOKEN"'
    settings = Settings(None, 1 << 30, host, 0, port, 0, token, None)
    assert first_lines(settings, port) == ("pip install otelstream", line.replace("HEADERS", headers))

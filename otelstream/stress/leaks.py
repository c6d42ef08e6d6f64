"""Asks the service's debug address for its leak report."""

from __future__ import annotations

import http.client
import json
import os
from typing import Any

from otelstream.stress.result import State
from otelstream.stress.target import split_address

DEFAULT = "127.0.0.1:6060"
"""Where a service under ``otelstream run`` is."""
TOKEN = "OTEL_PYTHON_OTELSTREAM_DEBUG_TOKEN"  # noqa: S105  # the variable, no token
_TIMEOUT_S = 30.0
"""A report may have to wait for another one to be made."""
_LONGER = " Drive it for longer, with --duration or --runs."
_MOST_BYTES = 16 * 2**20


class NoAnswer(Exception):
    """There is no leak report; the text says why."""


def fetch(address: str) -> State:
    """The report of the service whose debug address is ``address``, ``HOST:PORT``. Raises ``NoAnswer``.

    The token, where the service wants one, is that of this process's environment, as it is in the service's.
    """
    host, port = split_address(address)
    token = os.environ.get(TOKEN, "").strip()
    headers = {"Accept": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
    # Not urllib: it would go through the proxy that the environment names.
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/leaks", headers=headers)
        response = connection.getresponse()
        body = response.read(_MOST_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise NoAnswer(f"no debug address answers at {address} ({error})") from error
    finally:
        connection.close()
    if response.status != http.client.OK:
        hint = f" (set {TOKEN} to the service's)" if response.status == http.client.UNAUTHORIZED else ""
        raise NoAnswer(f"the debug address {address} refuses with HTTP status {response.status}{hint}")
    try:
        return _state(json.loads(body))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NoAnswer(f"what answers at {address} is no debug address of otelstream") from error


def _state(report: dict[str, Any]) -> State:
    """``otelstream.findings.LeakReport.to_dict`` as JSON; only what is read here must be there."""
    decided = report["leaking"] or report.get("decided", True)
    return State(
        rss=report["rss"],
        leaking=bool(report["leaking"]) if decided else None,
        verdict=f"{report['verdict']}{'' if decided else _LONGER}",
        findings=tuple(dict(finding) for finding in report["findings"]),
        service=f"{report['service']}, pid {report['pid']}" if "pid" in report else None,
    )

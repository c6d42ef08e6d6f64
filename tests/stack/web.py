"""What the query APIs of Jaeger and Prometheus answer."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

_ANSWER_S = 10.0


def get(url: str, **parameters: Any) -> Any:
    """The JSON at ``url``."""
    if parameters:
        url = f"{url}?{urlencode(parameters)}"
    with urlopen(url, timeout=_ANSWER_S) as answer:
        return json.load(answer)


def succeeds(url: str) -> bool:
    try:
        with urlopen(url, timeout=_ANSWER_S) as answer:
            return 200 <= answer.status < 300
    except (URLError, OSError):
        return False


def traces(jaeger: str, service: str, limit: int = 200, **tags: str) -> list[dict[str, Any]]:
    """Jaeger's search, as its page asks it."""
    return list(get(f"{jaeger}/api/traces", service=service, tags=json.dumps(tags), limit=limit, lookback="1h")["data"])


def values(prometheus: str, expr: str) -> list[dict[str, Any]]:
    """An instant query's rows."""
    return list(get(f"{prometheus}/api/v1/query", query=expr)["data"]["result"])


def series(prometheus: str, expr: str, seconds: float = 300, step: float = 2) -> list[dict[str, Any]]:
    """A range query's rows, over the last ``seconds``."""
    now = time.time() // step * step  # so that two queries have their steps at the same times
    answer = get(f"{prometheus}/api/v1/query_range", query=expr, start=now - seconds, end=now, step=step)
    return list(answer["data"]["result"])


def firing(prometheus: str) -> set[tuple[str, str]]:
    """Name and job of the alerts that fire."""
    alerts = get(f"{prometheus}/api/v1/alerts")["data"]["alerts"]
    return {
        (alert["labels"]["alertname"], alert["labels"].get("job", "")) for alert in alerts if alert["state"] == "firing"
    }

"""Leak reports made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from otelstream.findings import Finding, Growth, Kind, LeakReport, MethodRow, Outliving, Severity

KEPT = Finding(
    Kind.MESSAGES_RETAINED,
    Severity.WARNING,
    evidence="1,234 of 10,000 messages are still referenced 30 s after they were read.",
    advice="Bound the list, or drop messages when their stream ends.",
    method="shop.Ticks/Subscribe",
    side="server",
    growth=Growth(1200.0, 30.0, "{message}"),
    memory_growth=Growth(4_194_304.0, 209_715.2, "By"),
    share=0.934,
    holder="list TickService.history (server.py:41)",
)
NO_DEADLINE = Finding(
    Kind.NO_DEADLINE, Severity.INFO, "A stream is open for 3 h.", "Set a deadline.", "shop.Ticks/Trade", "client"
)
SUBSCRIBE = MethodRow("shop.Ticks/Subscribe", "server", 5, 20, 300.0, 2.0, 12345, 1234.0, 56.0, 4_300_000.0, 16, 0, 0)
TRADE = MethodRow("shop.Ticks/Trade", "client", 0, 2000, 0.0, 0.0, 5, 0.0, 0.0, 0.0, 1, 3, 0)
PUMP = Outliving("shop.Ticks/Trade", "client", False, "pump (client.py:12)", "Queue.get (queues.py:158)", 3, 200.0)


def healthy(**changes: Any) -> LeakReport:
    """A report without a finding."""
    made = LeakReport(
        time=1_700_000_000.0,
        pid=1234,
        service="ticks",
        window=300.0,
        decided=True,
        verdict="No leak: memory has not grown for 5 min.",
        rss=128 * 1024 * 1024,
        memory_growth=None,
        findings=(),
        methods=(),
        outliving=(),
        notes=(),
    )
    return replace(made, **changes)


def leaking(**changes: Any) -> LeakReport:
    """A report with a bit of everything."""
    made = healthy(
        verdict="A leak: list TickService.history (server.py:41) keeps the messages of shop.Ticks/Subscribe.",
        memory_growth=Growth(4_400_000.0, 200_000.0, "By"),
        findings=(KEPT, NO_DEADLINE),
        methods=(SUBSCRIBE, TRADE),
        outliving=(PUMP,),
        notes=("2 of 5 samples were not reached in 200 ms.",),
    )
    return replace(made, **changes)


def stream(**changes: Any) -> dict[str, Any]:
    """An open stream, as ``/streams`` has it."""
    return {
        "method": "shop.Ticks/Subscribe",
        "rpc_type": "server_stream",
        "side": "server",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "span_id": "b7ad6b7169203331",
        "age": 7300.0,
        "idle": 1.2,
        "deadline": None,
        "sent_count": 1200,
        "received_count": 1,
        "sent_bytes": 3_000_000,
        "received_bytes": 12,
        "peer": "127.0.0.1:40000",
        **changes,
    }

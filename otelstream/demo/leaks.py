"""The leaks to choose from: what they are, and where they show. What they do is in the services and the clients."""

from __future__ import annotations

from typing import NamedTuple


class Leak(NamedTuple):
    """Something that a service does wrong."""

    what: str
    code: str
    """Where it is done."""
    look: str
    """Where it shows."""


LEAKS = {
    "none": Leak(
        what="Nothing was leaked.",
        code="",
        look="The memory of both processes settles, and the short streams end as they began.",
    ),
    "history": Leak(
        what="The server keeps every order and every tick it receives, in a list that nothing empties.",
        code="TickFeed.history, otelstream/demo/service.py and aio_service.py",
        look="process.memory.usage of otelstream-demo-server grows with otelstream.message.io (received); "
        "otelstream.streams.open does not.",
    ),
    "unclosed": Leak(
        what="The client opens streams that it neither finishes nor cancels. It keeps half and forgets the others.",
        code="leave_open, otelstream/demo/client.py and aio_client.py",
        look="otelstream.streams.open of Trade grows, otelstream.stream.idle.max with it; forgotten streams end as "
        "`abandoned`, kept ones as `open_at_exit`.",
    ),
    "task": Leak(
        what="The server starts a thread (--sync) or a task (--aio) with each stream, which outlives the stream.",
        code="TickFeed._watch, otelstream/demo/service.py and aio_service.py",
        look="process.memory.usage of otelstream-demo-server grows with otelstream.streams.ended, with --sync "
        "process.thread.count, too; otelstream.streams.open does not.",
    ),
}

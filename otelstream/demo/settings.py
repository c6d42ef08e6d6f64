"""What a run of the demo is made of, and the arithmetic of its load."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass

QUOTE_BYTES = 200
"""Padding of the ticks that the server makes."""
ORDER_BYTES = 8 * 1024
"""Padding of what the client sends: it is what the server's ``history`` leak keeps."""
SHORT_UPLOAD, SHORT_SUBSCRIPTION, SHORT_TRADE = 10, 10, 5
"""Messages in the short streams."""
LEAK_EVERY_S = 0.25
"""Time between two streams that the client leaves unclosed."""
MOST_LEAKED = 400
"""Unclosed streams after which the client stops opening more: each may cost the server a thread."""
ALONE_ON_ITS_PORT = (("grpc.so_reuseport", 0),)
"""gRPC's option: else two demos on one port would share the calls without a word."""
WATCH_BYTES = 64 * 1024
"""What a thread or task that outlives its stream holds."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of ``otelstream demo`` that both processes need."""

    leak: str = "none"
    """A name in ``leaks.LEAKS``."""
    aio: bool = False
    streams: int = 10
    """Streams held open for the whole run, half of them ``Subscribe``, half ``Trade``."""
    rate: float = 200.0
    """Messages per second, both directions together: half of them in the open streams, half in short calls."""
    port: int = 0
    """The server's; 0 for a free one."""

    def to_json(self) -> str:
        """For the command line of a process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """What ``to_json`` made."""
        return cls(**json.loads(text))

    @property
    def short_rate(self) -> float:
        """Messages per second of the short calls together."""
        return self.rate / 2 if self.streams else self.rate

    @property
    def message_interval_s(self) -> float:
        """Time between two messages of one open stream."""
        return 2 * self.streams / self.rate


class Pace:
    """Spreads messages evenly: how long to wait before the next ones."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._due = time.monotonic()

    def wait_for(self, messages: int) -> float:
        """Seconds to wait before what costs ``messages``. What was missed by more than a second is not made up for."""
        now = time.monotonic()
        wait = max(0.0, self._due - now)
        self._due = max(self._due, now - 1) + messages / self._rate
        return wait

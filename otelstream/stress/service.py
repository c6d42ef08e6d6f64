"""What is driven, and what is known of its memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from otelstream.stress import leaks
from otelstream.stress.reflection import find_methods
from otelstream.stress.result import State
from otelstream.stress.target import Metadata, StressError, Target, split_address, tls_credentials


@dataclass(frozen=True, slots=True)
class Service:
    """A service, where its calls go, and where it tells of itself."""

    target: Target
    debug: str | None
    """Its debug address."""
    own_rss: Callable[[], int | None] | None = None
    """Reads the memory of a process that is a child of this one; None for one that is not."""

    def rss(self) -> int | None:
        """By; None where it is not known."""
        return self.own_rss() if self.own_rss else self.state().rss

    def state(self) -> State:
        """What it says of itself, else why that is not known."""
        if self.debug is None:
            return State(None, None, "no debug address is known. Name the service's with --debug HOST:PORT.")
        try:
            return leaks.fetch(self.debug)
        except leaks.NoAnswer as error:
            instead = "Start the service under `otelstream run`, or name its address with --debug."
            return State(None, None, f"{error}.{'' if self.own_rss else f' {instead}'}")

    def answers(self) -> bool:
        """It still does."""
        try:
            find_methods(self.target, ())
        except StressError:
            return False
        return True


def service_at(address: str, *, tls: bool, ca: Path | None, metadata: Metadata, debug: str | None) -> Service:
    """The service at ``address``, ``HOST:PORT``. Raises ``StressError``."""
    split_address(address)
    target = Target(address, tls_credentials(ca) if tls else None, metadata)
    if debug is None:
        return Service(target, leaks.DEFAULT if target.is_local else None)
    split_address(debug)
    return Service(target, debug)

"""How far the clocks of senders are off, as far as it shows. Times are ns."""

from __future__ import annotations

_S = 1_000_000_000
_SURE_NS = 15 * _S
_INTERVAL_NS = 60 * _S
_MOST_BEHIND_NS = 86_400 * _S


def offset_of(last_ns: int, arrived_ns: int, gap_ns: int) -> int:
    """Our clock less the sender's; 0 where it does not show that they differ.

    ``last_ns``: newest time in what came, on the sender's clock; ``arrived_ns``: when something last came, on ours;
    ``gap_ns``: longest time between arrivals of late.

    Nothing comes before it was made: a clock that tells a later time than ours is ahead. What comes is some time old,
    though: with metrics once a minute, the SDK's default, up to a minute. So a clock is behind only when all that came
    is older than the sender's own rhythm explains, of which no more than a minute counts, or than a minute while that
    is not known; and no clock is a day behind: that is data that somebody had kept.
    """
    offset_ns = arrived_ns - last_ns
    if offset_ns <= 0:
        return offset_ns
    late_ns = min(gap_ns, _INTERVAL_NS) if gap_ns else _INTERVAL_NS
    return offset_ns if late_ns + _SURE_NS < offset_ns <= _MOST_BEHIND_NS else 0

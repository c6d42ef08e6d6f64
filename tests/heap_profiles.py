"""Heap and CPU profiles made by hand, and any that Hypothesis finds."""

from __future__ import annotations

from hypothesis import strategies as st

from otelstream.profile.model import METHOD, SIDE, SPAN_ID, TRACE_ID, Frame, Labels, Profile, Sample, ValueType, labels

OBJECTS, SPACE = ValueType("inuse_objects", "count"), ValueType("inuse_space", "bytes")
WALL, CPU = ValueType("wall", "nanoseconds"), ValueType("cpu", "nanoseconds")
TIME_NS = 1_790_000_000_000_000_000  # 2026-09-21 14:13:20 UTC
KIB = 1024

SERVE = Frame("serve", "/srv/main.py", 8, 5)
TALK = Frame("Chat.Talk", "/srv/chat.py", 41, 30)
KEEP = Frame("keep", "/srv/chat.py", 52, 50)
WATCH = Frame("Ticks.Watch", "/srv/ticks.py", 7, 3)


def call(method: str, side: str, stream: int) -> Labels:
    """The labels of one stream."""
    return labels({METHOD: method, SIDE: side, TRACE_ID: f"{stream:032x}", SPAN_ID: f"{stream:016x}"})


TALK_1, TALK_2 = (call("shop.v1.Chat/Talk", "server", stream) for stream in (1, 2))
WATCH_3 = call("shop.v1.Ticks/Watch", "client", 3)


def heap(*samples: Sample, time_ns: int = TIME_NS) -> Profile:
    return Profile((OBJECTS, SPACE), samples, SPACE, 64 * KIB, time_ns)


BEFORE = heap(
    Sample((KEEP, TALK, SERVE), (4, 400 * KIB), TALK_1),
    Sample((KEEP, TALK, SERVE), (1, 100 * KIB), TALK_2),
    Sample((WATCH, SERVE), (2, 300 * KIB), WATCH_3),
    Sample((SERVE,), (10, 200 * KIB)),
)
"""1000 KiB: half of it at one line under ``Talk``, in two streams."""
AFTER = heap(
    Sample((KEEP, TALK, SERVE), (14, 1400 * KIB), TALK_1),
    Sample((WATCH, SERVE), (1, 100 * KIB), WATCH_3),
    Sample((SERVE,), (10, 200 * KIB)),
    time_ns=TIME_NS + 60 * 10**9,
)
"""A minute later ``Talk`` has 900 KiB more and ``Watch`` 200 KiB less."""
CPU_PROFILE = Profile(
    (OBJECTS, WALL, CPU),
    (
        Sample((TALK, SERVE), (3, 4 * 10**9, 3 * 10**9), TALK_1),
        Sample((WATCH, SERVE), (9, 9 * 10**9, 10**9), WATCH_3),
    ),
    CPU,
    10**7,
    TIME_NS,
    10 * 10**9,
)

int64 = st.integers(-(2**63), 2**63 - 1)
_text = st.text(max_size=8)
_frame = st.builds(Frame, _text, _text, int64, int64)
_value_types = st.lists(st.builds(ValueType, _text, _text), min_size=1, max_size=3, unique_by=lambda each: each.type)


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    """Whatever a profile can be."""
    types = draw(_value_types)
    frames = draw(st.lists(_frame, min_size=1, max_size=5))
    pairs = st.tuples(_text, st.text(min_size=1, max_size=8))
    sample = st.builds(
        Sample,
        st.lists(st.sampled_from(frames), max_size=6).map(tuple),
        st.tuples(*[int64] * len(types)),
        st.lists(pairs, max_size=3).map(lambda found: tuple(sorted(found))),
    )
    return Profile(
        types=tuple(types),
        samples=tuple(draw(st.lists(sample, max_size=5))),
        period_type=draw(st.builds(ValueType, _text, _text)),
        period=draw(int64),
        time_ns=draw(int64),
        duration_ns=draw(int64),
        comments=tuple(draw(st.lists(_text, max_size=3))),
    )

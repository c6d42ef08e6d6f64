"""A flame graph as one HTML file, which needs nothing else: no network, no library.

Everything that a profile says is data in it, JSON in which no tag can end, and becomes text of elements only; besides,
its policy lets no script run but its own.
"""

from __future__ import annotations

import base64
import hashlib
import json
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from otelstream.profile import tree, words
from otelstream.profile.model import Profile

_MOST = 20_000
"""Frames in the file, about 40 By each; what is left out is smaller than all of them."""
_HERE = Path(__file__).parent


def page(profile: Profile, title: str) -> str:
    """The whole file: a tower for each method; of a comparison (``model.minus``), what grew and what shrank."""
    style, script = ((_HERE / name).read_text(encoding="utf-8") for name in ("flame.css", "flame.js"))
    return Template((_HERE / "flame.html").read_text(encoding="utf-8")).substitute(
        policy=escape(
            f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; base-uri 'none'; "
            "form-action 'none'"
        ),
        title=escape(title),
        about="".join(f"<p>{escape(line)}</p>" for line in words.about(profile)),
        style=style,
        data=json.dumps(_data(profile), separators=(",", ":")).replace("<", "\\u003c"),
        script=script,
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _data(profile: Profile) -> dict[str, Any]:
    """What the script reads: one column for each field, so that it is small. Callers come before what they call."""
    nodes, left_out = tree.largest(tree.build(profile), _MOST)
    strings: dict[str, int] = {}
    frames: dict[tuple[str, str, int], int] = {}
    column = []
    for node in nodes:
        key = (node.frame.function, node.frame.file, node.frame.line)
        column.append(frames.setdefault(key, len(frames)))
    return {
        "types": profile.types,
        "shown": profile.default,
        "frames": [[*(strings.setdefault(text, len(strings)) for text in key[:2]), key[2]] for key in frames],
        "strings": list(strings),
        "frame": column,
        "depth": [node.depth for node in nodes],
        "values": [[node.values[index] for node in nodes] for index in range(len(profile.types))],
        "own": [[node.own[index] for node in nodes] for index in range(len(profile.types))],
        "changes": [[node.changes[index] for node in nodes] for index in range(len(profile.types))]
        if words.is_comparison(profile)
        else None,
        "left_out": left_out,
    }

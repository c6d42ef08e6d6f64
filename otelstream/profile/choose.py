"""Which part of a profile is shown, and how it is grouped: what a URL or a command line can ask for. Pure."""

from __future__ import annotations

from dataclasses import replace

from otelstream.profile import model
from otelstream.profile.model import METHOD, SPAN_ID, Profile

ROOTS = {"method": (METHOD,), "stream": (METHOD, SPAN_ID)}
"""What ``by`` can be: the labels that become outermost frames. A stream is its span: a trace may have several."""
_NAMED = 5
"""Methods that are named in a sentence."""


def grouped(profile: Profile, by: str | None) -> Profile:
    """``profile`` with the method, or the method and the stream, of each sample as its outermost frames."""
    return model.rooted(profile, *ROOTS[by]) if by else profile


def with_default(profile: Profile, wanted: str) -> Profile:
    """``profile`` with the type ``wanted`` as the last one, which is the one that is shown.

    Raises ``ValueError`` when it does not count that.
    """
    names = [each.type for each in profile.types]
    if wanted not in names:
        raise ValueError(f"the profile counts {', '.join(names)}, and not {wanted}")
    order = [*(index for index, name in enumerate(names) if name != wanted), names.index(wanted)]
    return replace(
        profile,
        types=tuple(profile.types[index] for index in order),
        samples=tuple(each._replace(values=tuple(each.values[i] for i in order)) for each in profile.samples),
    )


def of_method(profile: Profile, name: str) -> Profile:
    """The samples of the method ``name``: ``pkg.Service/Method``, or ``Service/Method`` or ``Method`` of only one.

    Raises ``ValueError`` when there is none, or more than one.
    """
    methods = sorted({value for sample in profile.samples for key, value in sample.labels if key == METHOD})
    found = [each for each in methods if each == name] or [
        each for each in methods if each.endswith((f".{name}", f"/{name}"))
    ]
    if len(found) == 1:
        return model.only(profile, METHOD, found[0])
    if found:
        raise ValueError(f"{name} may be {' or '.join(found[:_NAMED])}")
    there = f"there {'are' if len(methods) > 1 else 'is'} {', '.join(methods[:_NAMED])}" if methods else "none has one"
    raise ValueError(f"no sample is of the method {name}: {there}")

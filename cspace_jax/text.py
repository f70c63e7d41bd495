"""Words for people: durations, sizes of memory, the known name closest to a mistyped one."""

import difflib
import math
from collections.abc import Iterable


def closest(name: str, known: Iterable[str]) -> str:
    """Return ", did you mean 'X'?" for the known name nearest to `name`, or "" when none is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f", did you mean {near[0]!r}?" if near else ""


def minutes(seconds: float) -> str:
    """Return a duration in words."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{math.ceil(seconds / 3600)} h"


def in_words(size: float) -> str:
    """Return bytes as kB, MB or GB with three digits."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if size >= scale:
            return f"{size / scale:,.0f} {unit}" if size >= 1000 * scale else f"{size / scale:.3g} {unit}"
    return f"{size / 1e3:.3g} kB"

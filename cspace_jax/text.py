"""Durations, sizes of memory and names in words for people."""

import difflib
import math
from collections.abc import Iterable

MAX_NAME = 80  # characters of a name that tables and figures show


def closest(name: str, known: Iterable[str]) -> str:
    """Return ", did you mean 'X'?" for the known name nearest to `name`. No near name gives ""."""
    if not isinstance(name, str):
        return ""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f", did you mean {near[0]!r}?" if near else ""


def one_line(error: object, most: int | None = None) -> str:
    """Return the message of an error as one line of at most `most` characters (None: all of it)."""
    return " ".join(str(error).split())[:most]


def unpresentable(name: str) -> str:
    """Return why a terminal, a figure or a spreadsheet would misread a name. A name that is fine gives ""."""
    if not name.isprintable() or len(name) > MAX_NAME:
        return f"name {name[:MAX_NAME]!r}: must be printable, at most {MAX_NAME} characters"
    if (name.startswith(("=", "+", "-", "@")) and not _is_number(name)) or "$" in name:
        return f"name {name!r}: must not begin with =, +, - or @ (a formula), nor hold $ (Matplotlib's maths)"
    return ""


def _is_number(name: str) -> bool:
    """Return whether a name reads as a finite number."""
    try:
        return math.isfinite(float(name))
    except ValueError:
        return False


def minutes(seconds: float) -> str:
    """Return a duration in seconds as words: "85 s", "12 min" or "3 h". Hours are rounded up."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{math.ceil(seconds / 3600)} h"


def counted(count: int, noun: str) -> str:
    """Return a count and its noun: "1 run", "1,200 runs"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def in_words(size: float) -> str:
    """Return bytes as kB, MB or GB with three digits."""
    rounded = float(f"{size:.3g}")  # 999.6e6 bytes are 1 GB, not 1e+03 MB
    unit, scale = next((one for one in (("GB", 1e9), ("MB", 1e6)) if rounded >= one[1]), ("kB", 1e3))
    return f"{size / scale:,.0f} {unit}" if rounded >= 1000 * scale else f"{rounded / scale:.3g} {unit}"

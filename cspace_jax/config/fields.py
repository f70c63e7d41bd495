"""Each configuration field has one declaration: its default, its explanation and the values that are allowed.

Defaults, checks, the help text, docs/config.md and "does it change a stored result" all derive from it.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Interval:
    """The numbers from `low` to `high`. An open end is excluded."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def met(self, value: float) -> float:
        """Return the closed end that `value` misses by no more than a rounding to float32.

        Any other value is returned as it is.
        """
        closed = [
            float(end) for end, is_open in ((self.low, self.open_low), (self.high, self.open_high)) if not is_open
        ]
        near = [end for end in closed if math.isclose(value, end, rel_tol=2**-23)]
        return near[0] if near and isinstance(value, float) and not self._holds(value) else value

    def __contains__(self, value: float) -> bool:
        return self._holds(self.met(value))

    def _holds(self, value: float) -> bool:
        """Return whether a value lies in the interval, without tolerance; at open ends as float32, as it is used."""
        rounded = float(np.float32(value)) if isinstance(value, float) else value
        above = rounded > self.low if self.open_low else value >= self.low
        below = rounded < self.high if self.open_high else value <= self.high
        return above and below

    def __str__(self) -> str:
        lower = f"{'above' if self.open_low else 'at least'} {self.low:g}"
        if math.isinf(self.high):
            return lower
        return f"in {'(' if self.open_low else '['}{self.low:g}, {_short(self.high)}{')' if self.open_high else ']'}"


def _short(number: float) -> str:
    """Return a number as text, a whole one without a point."""
    return str(int(number)) if number == int(number) else f"{number:g}"


@dataclasses.dataclass(frozen=True)
class Declared:
    """The declaration of a field.

    Attributes:
      text: the explanation, one phrase.
      interval: of its numbers, those of its entries if it is a tuple; None = any.
      names: what it must be one of; () = any.
      reason: why the interval ends where it does, "" = plain.
      affects_results: whether another value could change a stored result by more than rounding.
    """

    text: str
    interval: Interval | None = None
    names: tuple[str, ...] = ()
    reason: str = ""
    affects_results: bool = True

    @property
    def allowed(self) -> str:
        """The allowed values in words. Where only the type decides, this is ""."""
        return ", ".join(self.names) if self.names else str(self.interval or "")


def field(
    default: Any,
    text: str,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    one_of: tuple[str, ...] = (),
    reason: str = "",
    affects_results: bool = True,
) -> Any:
    """Declare a field of a configuration dataclass, and return the dataclass field.

    Args:
      default: its default, hashable.
      text: what it is, one phrase with its unit.
      at_least: closed lower end of its numbers, or of the numbers of a tuple.
      above: open lower end.
      at_most: closed upper end.
      below: open upper end.
      one_of: the names it may take.
      reason: why the interval ends where it does.
      affects_results: whether another value could change a stored result by more than rounding.
    """
    low, high = (a if b is None else b for a, b in ((at_least, above), (at_most, below)))
    interval = None
    if low is not None or high is not None:
        ends = (-math.inf if low is None else low, math.inf if high is None else high)
        interval = Interval(*ends, above is not None, below is not None)
    declared = Declared(text, interval, one_of, reason, affects_results)
    return dataclasses.field(default=default, metadata={"declared": declared})


def declared(kind: type, path: str = "") -> Iterator[tuple[str, dataclasses.Field, Declared]]:
    """Yield (dotted name, field, declaration) of every declared field of a dataclass and its groups."""
    for one in dataclasses.fields(kind):
        here = f"{path}.{one.name}" if path else one.name
        if "declared" in one.metadata:
            yield here, one, one.metadata["declared"]
        elif dataclasses.is_dataclass(one.default):
            yield from declared(type(one.default), here)

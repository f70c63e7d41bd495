"""Progress as a bar in a terminal or notebook, or as plain lines in a log file.

A log file gets a line a minute.
"""

import math
import sys
from typing import Any

from tqdm import tqdm

FIRST_SECONDS = 5.0  # until the first line
EVERY_SECONDS = 60.0  # between two lines


def bar(total: int, label: str, unit: str, *, initial: int = 0, leave: bool = True, silent: bool = False) -> tqdm:
    """Return a progress display with share, rate and time left, on standard error.

    It is to be closed, or used in a `with`.

    Args:
      total: units of all that is to do.
      label: what is being done.
      unit: what is counted.
      initial: units that are done already.
      leave: whether a bar stays when it is full; a last line always does.
      silent: show nothing.
    """
    options = {"total": total, "desc": label, "unit": unit, "initial": initial, "disable": silent, "file": sys.stderr}
    if _redraws(sys.stderr):
        return tqdm(**options, leave=leave, dynamic_ncols=True, mininterval=0.5)
    return Lines(**options)


def _redraws(stream: Any) -> bool:
    """Return whether a stream shows a line anew after a carriage return."""
    return stream.isatty() or type(stream).__module__.startswith("ipykernel")


class Lines(tqdm):
    """Show the numbers of a bar as plain lines.

    The first line comes after `FIRST_SECONDS`, then one every `EVERY_SECONDS`, and one at the end.
    """

    def __init__(self, **options: Any):
        # One unit is enough for a look at the clock, and tqdm's own thread, which shows more often, stays out of it.
        super().__init__(**options, mininterval=FIRST_SECONDS, miniters=1, maxinterval=math.inf, delay=1e-9, ncols=0)
        self._shown = None

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Write a line. Nothing happens where a bar would be cleared (`msg` given)."""
        if msg is None:
            self.fp.write(f"{self}\n")
            self.fp.flush()
            self._shown, self.mininterval = self.n, EVERY_SECONDS

    def clear(self, nolock: bool = False) -> None:
        """Do nothing: a line stays."""

    def close(self) -> None:
        """Write the last line, unless it was just written."""
        if not self.disable and self._shown != self.n:
            self._ema_dt = lambda: None  # as tqdm does: the last rate is that of all units
            self.display()
        self.leave = False
        super().close()

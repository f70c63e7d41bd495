"""Output streams that let the work go on once nobody can read them."""

import os
import sys
from collections.abc import Iterable
from typing import Any


class Patient:
    """A text stream that writes into nothing once its target cannot be written to.

    A pager or terminal may be closed, or a disk full.

    Args:
      stream: written to a file descriptor.
    """

    def __init__(self, stream: Any):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text, and return its length."""
        try:
            return self._stream.write(text)
        except OSError:
            self._give_up()
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write lines."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Hand on what was written."""
        try:
            self._stream.flush()
        except OSError:
            self._give_up()

    def _give_up(self) -> None:
        """Point the stream's file descriptor at the null device."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())  # what is still in the buffer goes there too
        os.close(nowhere)
        self._stream.flush()


def outlive_readers() -> None:
    """Make standard output and standard error of this process patient (`Patient`).

    A stream that is closed from the start writes into nothing.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name) or open(os.devnull, "w")  # noqa: SIM115
        if hasattr(stream, "reconfigure"):  # a word that the terminal's encoding lacks is shown as its number
            stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, Patient(stream))

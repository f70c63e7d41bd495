"""Handling of the signals that ask a command to end.

Training first saves a state. Everything else ends where it is. SIGTERM, as a scheduler sends it before it takes a
machine away, ends the command within `GRACE_SECONDS` with exit code 143. SIGINT (Ctrl-C) waits for the state and ends
with 130; a second one ends at once.

Python carries out its own handlers between two of its instructions only, which may be minutes apart while a compiled
program runs. A thread therefore hears of the signals too, and ends the process where the main thread does not come to
it. A signal that this process was started to ignore, as by nohup, stays ignored.
"""

import _thread
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

GRACE_SECONDS = 25.0
SIGNALS = (signal.SIGINT, signal.SIGTERM)
_RESUMES = "the same command goes on from the last checkpoint"

_asked: list[int] = []  # signals that came, in their order
_saving: list[None] = []  # bodies of `saves` that are being carried out
_waiting: list[None] = []  # bodies of `waits`
_lost: list[None] = []  # whether what would be saved belongs to another process now
_last_acts: list[Callable[[], None]] = []
_channel: list[int] = []  # of the handlers in C to the thread
_repeated: list[None] = []  # signals that `heard_again` sends itself
_REPEAT_SECONDS = 0.02


class Stopped(BaseException):
    """The command was asked to end by a signal.

    Attributes:
      code: the exit code that the signal stands for, 128 plus its number.
    """

    def __init__(self, number: int):
        super().__init__(f"{_name(number)}: ended; {_RESUMES}")
        self.code = 128 + number


def listen() -> None:
    """Take the signals from here on. A second call changes nothing.

    It must be called in the main thread.
    """
    if not _channel:
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        _channel[:] = [reader, writer]
        threading.Thread(target=_hear, args=(reader,), daemon=True, name="signals").start()
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        before = sys.unraisablehook
        sys.unraisablehook = lambda report: None if heard_again(report) else before(report)
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _handle)


def heard_again(report: Any) -> bool:
    """Repeat a signal whose exception could not get out, as in garbage collection.

    Args:
      report: what `sys.unraisablehook` is given.

    Returns:
      Whether the report was of such a signal.
    """
    if not isinstance(report.exc_value, Stopped):
        return False
    number = report.exc_value.code - 128
    _asked.clear()

    def repeat() -> None:
        _repeated.append(None)
        _thread.interrupt_main(signal.Signals(number))

    timer = threading.Timer(_REPEAT_SECONDS, repeat)  # once the main thread is out of there
    timer.daemon = True
    timer.start()
    return True


def interrupt() -> None:
    """Interrupt the main thread as SIGINT does, from any thread, and save nothing."""
    _lost.append(None)
    _thread.interrupt_main()


def finally_do(act: Callable[[], None]) -> None:
    """Register an act that is carried out if a process ends without its orderly end.

    It must be short. An exception of it is passed over.
    """
    _last_acts.append(act)


@contextlib.contextmanager
def saves() -> Iterator[None]:
    """Promise that the body calls `asked` again and again, and saves a state before it calls `leave`."""
    with _marked(_saving):
        yield


@contextlib.contextmanager
def waits() -> Iterator[None]:
    """Mark a body that waits for other processes or loads modules, so that there is nothing to save.

    A signal then ends the process at once. An exception would crash modules in C++ that are just being loaded.
    """
    with _marked(_waiting):
        yield


@contextlib.contextmanager
def _marked(bodies: list[None]) -> Iterator[None]:
    """Keep a mark in a list while the body lasts."""
    bodies.append(None)
    try:
        yield
    finally:
        bodies.pop()


def asked() -> bool:
    """Return whether a signal asked this process to end."""
    return bool(_asked)


def leave() -> None:
    """End the command in the way that the first signal asks for. Nothing happens if none came.

    Raises:
      Stopped: one came.
    """
    if _asked:
        raise Stopped(_asked[0])


def _handle(number: int, _: object) -> None:
    """Take a signal in the main thread, between two instructions of Python."""
    _asked.append(number)
    if len(_asked) > 1 or _waiting:
        return  # the process is on its way out; the thread ends it
    if _lost or not _saving:
        leave()
    else:
        again = "; once more ends at once" if number == signal.SIGINT else ""
        print(f"\n{_name(number)}: a state is saved first{again}", file=sys.stderr, flush=True)


def _hear(reader: int) -> None:
    """Take signals in a thread of their own.

    The thread ends the process where the main thread does not come to it.
    """
    interrupts = 0
    while numbers := os.read(reader, 16):
        for number in numbers:
            if _repeated:
                _repeated.pop()
                continue
            interrupts += number == signal.SIGINT
            if _waiting or interrupts > 1:
                _end(number)
            if number == signal.SIGTERM:
                timer = threading.Timer(GRACE_SECONDS, _end, (number,))
                timer.daemon = True
                timer.start()


def _end(number: int) -> None:
    """End the process at once.

    Files are left as a kill would leave them.
    """
    for act in _last_acts:
        with contextlib.suppress(Exception):
            act()
    with contextlib.suppress(Exception):
        print(f"\n{Stopped(number)}", file=sys.stderr, flush=True)
        sys.stdout.flush()
    os._exit(128 + number)


def _name(number: int) -> str:
    """Return the name of a signal, such as "SIGTERM"."""
    return signal.Signals(number).name

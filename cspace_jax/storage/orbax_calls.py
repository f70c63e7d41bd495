"""Orbax is called in silence and in this process alone, whatever other processes do.

Written for Orbax 0.12.
"""

import contextlib
import functools
import gc
import logging
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import jax
from orbax.checkpoint import multihost
from orbax.checkpoint import v1 as ocp

from cspace_jax import stopping

_SAME_PATH = "_check_directory_consistency"
_TIMEOUT_SECONDS = 10**8  # of a save; Orbax takes the time from the clock of the day, which may jump
_SETTLE_SECONDS = 0.2  # wait after a failed read or write for the others of the same call


class _FirstEverywhere:
    """Orbax's `multihost`, in which this process is number 0."""

    def __init__(self, original: Any):
        self._original = original

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)

    def process_index(self) -> int:
        return 0


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Let Orbax save and read in this process alone.

    Many processes hold different runs and never meet here.
    """
    # Where it makes folders in the background, it waits for them with a limit of its own, by the same clock.
    patient = ocp.options.AsyncOptions(timeout_secs=_TIMEOUT_SECONDS, create_directories_asynchronously=False)
    if jax.process_count() == 1:
        with ocp.Context(async_options=patient):
            yield
        return
    from orbax.checkpoint._src.serialization import type_handlers  # private, so only where nothing else helps
    from orbax.checkpoint.experimental.v1._src.saving import execution

    me = multihost.process_index()
    options = ocp.options.MultiprocessingOptions(primary_host=me, active_processes={me})
    # Orbax 0.12 writes NumPy arrays in process 0 only. Left in place, because writes go on in the background.
    if not isinstance(type_handlers.multihost, _FirstEverywhere):
        type_handlers.multihost = _FirstEverywhere(type_handlers.multihost)  # type: ignore[assignment]
    # Whatever the options say, it compares the paths of all processes in every save, by a collective operation: it
    # would wait for processes that save at other times, and then refuse their other paths.
    with (
        ocp.Context(multiprocessing_options=options, async_options=patient),
        _replaced(execution, _SAME_PATH, lambda _: None),
    ):
        yield


@contextlib.contextmanager
def _replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    """Give a module another attribute while the body lasts."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


def settle() -> None:
    """Let the tasks that are in flight after a failure fail too.

    It is to be called in silence (`quiet`). The tasks find their event loop closed, and complain when they are
    collected.
    """
    time.sleep(_SETTLE_SECONDS)
    gc.collect()


@functools.cache
def quiet_in_the_background() -> None:
    """Silence the failures of saves that go on while training does.

    The silence lasts until the process ends. The next wait raises the failure anyway.
    """
    for name in ("absl", "asyncio"):  # asyncio tells of tasks that failed and were collected before the wait
        logging.getLogger(name).addFilter(_not_of_orbax)
    before = sys.unraisablehook
    sys.unraisablehook = lambda report: None if _is_closed_loop(report) else before(report)


def _not_of_orbax(record: logging.LogRecord) -> bool:
    """Return whether a line of the log neither comes from Orbax nor tells of a task of Orbax."""
    own = f"{os.sep}orbax{os.sep}"
    return own not in record.pathname and own not in record.getMessage()


def _is_closed_loop(report: Any) -> bool:
    """Return whether an exception that nobody can catch comes from another failed write of the same save."""
    return isinstance(report.exc_value, RuntimeError) and "Event loop is closed" in str(report.exc_value)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence Orbax.

    It warns about what is usual here, and prints tracebacks of errors that it also raises.
    """
    before = logging.root.manager.disable, sys.unraisablehook
    logging.disable(logging.CRITICAL)
    sys.unraisablehook = stopping.heard_again
    try:
        yield
    finally:
        logging.disable(before[0])
        sys.unraisablehook = before[1]


def line(error: BaseException) -> str:
    """Return an error's type and message in one line, without the storage library's dump of its settings."""
    text = " ".join(str(error).split(" [tensorstore_spec")[0].split())
    return f"{type(error).__name__}: {text[:240]}" if text else type(error).__name__

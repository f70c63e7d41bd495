"""Many processes can share one study: each trains and reads its own waves of runs.

The first process merges the files that all of them wrote. Runs never talk to each other, so processes share no arrays:
each computes on its local devices as if it were alone. They meet at a few barriers of JAX's coordination service and
hand each other files in the workdir, which all must see.
"""

import contextlib
import itertools
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, TypeVar

from cspace_jax import stopping
from cspace_jax.errors import UserError
from cspace_jax.text import one_line

T = TypeVar("T")
_BY_HAND = ("coordinator", "num_processes", "process_id")
_PATIENCE_SECONDS = 20 * 24 * 3600  # how long the first to reach a barrier waits; a process that died ends it sooner
_FAREWELL_SECONDS = 15  # how long a process that failed waits for others with the same failure to say so too
_SHUTDOWN_SECONDS = 60
_PATIENT_SECONDS = 5.0  # until it is said whom a process waits for; twice as long to the next line
_SAID_AGAIN_SECONDS = 600.0
_HEARTBEAT = "CSPACE_JAX_HEARTBEAT_SECONDS"
_numbers = itertools.count()
_joined = False


def join(coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None) -> None:
    """Join the other processes of a study. It must run before JAX's backend starts.

    Without arguments the cluster is detected (SLURM, Open MPI, Kubernetes, Cloud TPU). Processes other than the first
    write nothing to standard output from then on.

    Args:
      coordinator: HOST:PORT that process 0 listens on.
      num_processes: number of processes.
      process_id: number of this process, from 0.

    Raises:
      UserError: arguments that do not fit together, or no cluster is detected.
    """
    given = {"coordinator": coordinator, "num_processes": num_processes, "process_id": process_id}
    known = {name: value for name, value in given.items() if value is not None}
    arguments = _check_by_hand(known) if known else {}
    import jax

    jax.config.update("jax_enable_preemption_service", False)  # it takes SIGTERM, which `stopping` deals with
    silence, where = _silence(), f" at {coordinator}" if coordinator else ""
    try:
        with _patient(f"{num_processes or 'all'} processes{where}"):
            jax.distributed.initialize(
                **arguments, heartbeat_timeout_seconds=silence, shutdown_timeout_seconds=_SHUTDOWN_SECONDS
            )
            jax.local_devices()  # the backends of all processes wait for each other as they start
    except UserError:
        raise
    except Exception as error:  # of several kinds, by the cluster
        reason = one_line(error, 200)
        raise UserError(f"distributed: the processes cannot be joined ({reason}); {_advice()}") from error
    global _joined
    _joined = True
    if jax.process_index() > 0:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


@contextlib.contextmanager
def _patient(whom: str) -> Iterator[None]:
    """Print again and again, while the body lasts, whom it waits for."""
    over, since = threading.Event(), time.monotonic()

    def say() -> None:
        seconds = _PATIENT_SECONDS
        while not over.wait(seconds):
            print(f"distributed: waiting for {whom} to come ({time.monotonic() - since:.0f} s)", flush=True)
            seconds = min(2 * seconds, _SAID_AGAIN_SECONDS)

    with stopping.waits():
        threading.Thread(target=say, daemon=True, name="waiting").start()
        try:
            yield
        finally:
            over.set()


def _silence() -> int:
    """Return the seconds without a sign of life after which a process is given up.

    Raises:
      UserError: the variable is not a whole number of at least 1.
    """
    text = os.environ.get(_HEARTBEAT, "100")
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"{_HEARTBEAT} = {text!r}: must be a whole number of seconds, at least 1")
    return int(text)


def _check_by_hand(given: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of `jax.distributed.initialize`.

    Raises:
      UserError: the given ones do not fit together.
    """
    missing = [name for name in _BY_HAND if name not in given]
    if missing:
        raise UserError(f"{missing[0]} is not given: {_advice()}")
    address, count, index = (given[name] for name in _BY_HAND)
    port = re.fullmatch(r"\S+:(\d{1,5})", address)
    if not port or not 0 < int(port[1]) < 65536:
        raise UserError(f"coordinator = {address!r}: must be HOST:PORT, for example node1:12345")
    if index >= count:
        raise UserError(f"process_id = {index}: must be less than num_processes = {count}")
    names = {"coordinator_address": address, "num_processes": count, "process_id": index}
    return {**names, "cluster_detection_method": "deactivate"}


def _advice() -> str:
    """Return in words the flags that name the processes by hand."""
    by_hand = "--coordinator=HOST:PORT --num_processes=N --process_id=I"
    return f"outside SLURM, Open MPI, Kubernetes and Cloud TPU give {by_hand}"


def are_many() -> bool:
    """Return whether this process was joined with others (`join`)."""
    return _joined


def is_first() -> bool:
    """Return whether this process is number 0; a single process is.

    The first process prints, trains the probe and merges. Asking starts JAX's backend.
    """
    import jax

    return jax.process_index() == 0


def share(items: Sequence[T], index: int, count: int) -> Sequence[T]:
    """Return the part of `items` that belongs to process `index` of `count`.

    Parts are consecutive and differ in length by at most one; with fewer items than processes some are empty.
    """
    start, stop = (-(-len(items) * i // count) for i in (index, index + 1))
    return items[start:stop]


def own(items: Sequence[T]) -> Sequence[T]:
    """Return the part of `items` that belongs to this process. A single process owns all of them."""
    import jax

    return share(items, jax.process_index(), jax.process_count())


def barrier() -> None:
    """Wait until all processes are here. A single process does not wait.

    Raises:
      UserError: another process has ended.
    """
    _meet(f"cspace_jax/{next(_numbers)}", _PATIENCE_SECONDS)


def _meet(name: str, seconds: int) -> None:
    """Wait at a barrier with a name, for at most `seconds`.

    Raises:
      UserError: another process has ended.
    """
    if not _joined:
        return
    import jax
    from orbax.checkpoint import multihost  # its barrier needs no collective operation of the devices

    try:
        with _patient(f"all {jax.process_count()} processes"):
            multihost.sync_global_processes(name, timeout=seconds, processes=set(range(jax.process_count())))
    except RuntimeError as error:
        again = "the same command goes on from the last checkpoints"
        raise UserError(f"distributed: another process has ended; {again}") from error


def first_then_others(function: Callable[[], T]) -> T:
    """Call a function in the first process, then in all others, and return its result in each.

    The others begin once the first has returned or failed.
    """
    if is_first():
        try:
            return function()
        finally:
            barrier()
    barrier()
    return function()


def leave(code: int) -> NoReturn:
    """End this process with an exit code after a failure, and with it the others.

    JAX ends the others that have not failed themselves.
    """
    if _joined:
        with contextlib.suppress(UserError):
            _meet("cspace_jax/failed", _FAREWELL_SECONDS)
            if is_first():  # the others are ended by JAX as soon as this process is gone: let them say their line
                time.sleep(1.0)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # an orderly exit would first wait for processes that go on
    sys.exit(code)

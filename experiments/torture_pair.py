"""Carry out a command in two processes, as a scheduler does.

Signals go to both, and both end when this process is killed.

    python -m experiments.torture_pair --config=signal:smoke --workdir=runs/a

The exit code is that of the process that says why it ended: JAX aborts the others. Linux only.
"""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys

COUNT = 2
SAID = (2, 143, 130, 1)  # exit codes of a process that says why it ended
_PARENT_DEATH = 1  # PR_SET_PDEATHSIG


def _with_me() -> None:
    ctypes.CDLL(None).prctl(_PARENT_DEATH, signal.SIGKILL)


def main(arguments: list[str]) -> int:
    """Return the exit code of the command in both processes."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        coordinator = f"localhost:{free.getsockname()[1]}"
    group = ("--distributed", f"--coordinator={coordinator}", f"--num_processes={COUNT}")
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "1"}
    first = "experiments.torture_traced" if "TORTURE_TRACE" in os.environ else "cspace_jax.main"
    running: list[subprocess.Popen] = []

    def hand_on(number: int, _: object) -> None:
        for one in running:
            with contextlib.suppress(ProcessLookupError):
                one.send_signal(number)

    signal.signal(signal.SIGTERM, hand_on)
    signal.signal(signal.SIGINT, hand_on)
    for i in range(COUNT):
        module = first if i == 0 else "cspace_jax.main"  # it alone writes the trace: it passes all stages
        line = [sys.executable, "-m", module, *arguments, *group, f"--process_id={i}"]
        running.append(subprocess.Popen(line, env=environment, preexec_fn=_with_me))  # noqa: PLW1509
    codes = [code if code >= 0 else 128 - code for code in (one.wait() for one in running)]
    return next((code for code in (*SAID, *codes) if code in codes and code), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

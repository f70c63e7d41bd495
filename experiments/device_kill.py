"""A training that is killed with kill -9 and goes on, against one that nobody disturbed: equal bit for bit?

All of them are the real command in processes of their own, one after another, so that each has the device alone. What
they leave is compared in this process, which must not have started a backend on that device.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import time
from typing import Any

import jax
import numpy as np

import cspace_jax as cs
from cspace_jax.errors import UserError
from cspace_jax.storage import checkpoint
from cspace_jax.storage.metrics import read_metrics
from experiments import narrow

STEPS = 40
# The smallest network, one run, a state at each of eight saves: most of the time after the first lies in saves.
ARGUMENTS = (
    "--config=signal:smoke",
    "--mode=train",
    f"--config.optim.steps={STEPS}",
    "--config.optim.log_every=3",
    "--config.save.start=4",
    "--config.save.count=8",
    "--config.engine.state_seconds=0.0",
    "--config.grid.seeds=(0,)",
    "--config.figures=()",
    *narrow.FLAGS,
)


def kill_and_resume(folder: pathlib.Path, platforms: str | None, arguments: tuple[str, ...] = ARGUMENTS) -> Any:
    """Train undisturbed, train again with a kill after the first saved state, go on, and compare.

    Args:
      folder: removed before and after.
      platforms: JAX_PLATFORMS of the trainings; None = unset.
      arguments: command line of a training of one wave, without its workdir.

    Returns:
      "killed_at" and "last", the steps; "equal"; where that is False also "repeatable", whether two undisturbed
      trainings are equal.

    Raises:
      UserError: a training fails, or ends before it could be killed.
    """
    environment = {name: value for name, value in os.environ.items() if name != "JAX_PLATFORMS"}
    environment |= {"JAX_PLATFORMS": platforms} if platforms is not None else {}
    straight, killed, again = (folder / name for name in ("straight", "killed", "again"))
    line = [sys.executable, "-m", "cspace_jax.main", *arguments, f"--config.probe.cache_dir={folder / 'probe'}"]
    shutil.rmtree(folder, ignore_errors=True)
    try:
        _train([*line, f"--workdir={straight}"], environment)
        step = _train_and_kill([*line, f"--workdir={killed}"], environment, killed)
        _train([*line, f"--workdir={killed}"], environment)
        found = {"killed_at": step, "last": _last_state(straight), "equal": equal(straight, killed)}
        if not found["equal"]:
            _train([*line, f"--workdir={again}"], environment)
            found["repeatable"] = equal(straight, again)
        return found
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _train(line: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(line, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        last = (done.stderr.strip() or "nothing on standard error").splitlines()[-1]
        raise UserError(f"a training ended with exit code {done.returncode}: {last}")


def _train_and_kill(line: list[str], environment: dict[str, str], workdir: pathlib.Path) -> int:
    """Start a training and kill it once its first state is on disk.

    Returns the step of the last state that it left.

    Raises:
      UserError: the training ended before it could be killed.
    """
    quiet = subprocess.DEVNULL
    with subprocess.Popen(line, env=environment, stdin=quiet, stdout=quiet, stderr=quiet) as running:
        while running.poll() is None and _last_state(workdir) is None:
            time.sleep(0.002)
        running.kill()
    step = _last_state(workdir)
    if running.returncode >= 0 or step is None:
        raise UserError(f"the training ended with exit code {running.returncode} before it could be killed")
    return step


def _last_state(workdir: pathlib.Path) -> int | None:
    return checkpoint.latest_step(workdir / "checkpoints" / "wave_000" / "state")


def equal(first: pathlib.Path, second: pathlib.Path) -> bool:
    """Return whether two workdirs hold the same metrics, parameters of every save and last state, bit for bit."""
    return same_bits(_content(first), _content(second))


def _content(workdir: pathlib.Path) -> dict[str, Any]:
    study = cs.open_study(workdir)
    (wave,) = study.waves
    runner = study.engine(wave)
    state = runner.abstract_state()
    restored = {step: checkpoint.restore(wave.params_folder, step, state.evaluated) for step in study.steps}
    last = checkpoint.restore(wave.state_folder, study.steps[-1], state)
    rows = [{**row, "steps_per_second": 0.0} for row in read_metrics(study.workdir.metrics)]
    return {"params": restored, "state": runner.fetch([last]), "metrics": rows}


def same_bits(first: Any, second: Any) -> bool:
    """Return whether two trees of arrays and numbers are equal bit for bit; a NaN equals itself."""
    ours, theirs = (jax.tree.flatten(tree) for tree in (first, second))
    pairs = zip(map(np.asarray, ours[0]), map(np.asarray, theirs[0]), strict=False)
    return ours[1] == theirs[1] and all(
        a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes() for a, b in pairs
    )

"""Compare the memory that training is predicted to need with what a process is seen to take (Linux, CPU).

    python -m experiments.memory_check --config=configs/signal.py:quick --runs=1,4,16
    python -m experiments.memory_check --config=configs/images.py:quick --config.data.path=MY_PICTURES --runs=1,4

Each number of runs is trained for a few steps and fetched as for a save, in a process of its own. All this is done
once before, so that everything is compiled; what the process holds then is the base. The table gives the base, the
highest resident size after it, their difference and the prediction, in MB.
"""

import ctypes
import gc
import pathlib
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import cspace_jax as cs
from cspace_jax.cli import scripts
from cspace_jax.cli.arguments import is_override
from cspace_jax.config.plan import Plan
from cspace_jax.errors import UserError


def main(arguments: Sequence[str]) -> None:
    """Measure every number of runs in a fresh process, or one of them in this process (`--inside`).

    Raises:
      UserError: the system is not Linux, or an argument is bad.
    """
    parser = scripts.Parser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--config", default="configs/signal.py:quick", help="study and scale")
    parser.add_argument("--runs", type=scripts.comma_separated(int), default=(1, 4, 16), help="numbers of runs")
    parser.add_argument("--inside", action="store_true", help="measure in this process")
    flags = parser.parse_with_overrides(arguments)
    if not pathlib.Path("/proc/self/clear_refs").exists():
        raise UserError("memory_check needs Linux: it reads /proc/self")
    if flags.inside:
        return measure(flags.config, flags.runs[0], flags.overrides)
    print(f"{'runs':>5} {'base':>8} {'peak':>8} {'increment':>10} {'predicted':>10} {'ru_maxrss':>10}")
    for runs in flags.runs:
        line = [sys.executable, "-m", "experiments.memory_check", f"--config={flags.config}", f"--runs={runs}"]
        line += [argument for argument in arguments if is_override(argument)]
        if code := subprocess.run([*line, "--inside"]).returncode:
            raise UserError(f"runs = {runs}: measuring ended with exit code {code}")


def measure(path: str, runs: int, overrides: Mapping[str, Any]) -> None:
    """Train `runs` runs of a study, some of its fields overridden, and print one line of the table."""
    import jax

    from cspace_jax.config import grid
    from cspace_jax.cost import memory
    from cspace_jax.engine import engine
    from cspace_jax.pipeline import image_source
    from cspace_jax.training.run import TrainSpec

    config = cs.load_config(path, **{**overrides, "grid.seeds": tuple(range(runs)), "grid.sep_col": (0.2,)})
    image_source.open_and_check(config)
    plan = Plan.resolve(config, jax.default_backend())

    def train(count: int) -> None:
        settings = grid.stack(grid.grid_settings(config.grid)[:1] * count)
        runner = engine.Engine(TrainSpec.from_config(config, plan), settings, plan)
        state = runner.init()
        for turn in range(2):
            steps = plan.steps_per_call
            state, metrics = runner.train(state, turn * steps, steps)
            jax.block_until_ready(metrics)
        runner.fetch([group.evaluated for group in state])
        runner.fetch(state)

    train(runs)
    predicted = memory.peak_bytes(memory.analyse(config, plan), memory.here(config, plan), runs)
    jax.block_until_ready(jax.numpy.zeros(1))
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the highest resident size starts anew
    base = _status("VmRSS")
    train(runs)
    peak, ever = _status("VmHWM"), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    print(
        f"{runs:>5} {base:>8.1f} {peak:>8.1f} {peak - base:>10.1f} {predicted / 1e6:>10.1f} {ever:>10.1f}", flush=True
    )


def _status(name: str) -> float:
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    # Without the allocator's settings of the main command, which would keep what compilation leaves behind.
    from cspace_jax import startup

    startup.set_up_jax()
    scripts.exit_on_user_error(main, sys.argv[1:])

"""Does a run of a large grid cost what one of a small grid does? Tiny studies of some sizes, one after another.

    python -m experiments.grid_load --workdir=runs/load --runs=32,512 --saves=64

Time by stage, and the largest resident memory, of each grid as one command; then of `--mode=figures` of the largest.
Linux only. Exit code 1 if time or memory a run is more than 1.2 times that of the smallest grid.
"""

import json
import pathlib
import shutil
import time
from collections.abc import Sequence

from etils import epath

from cspace_jax.cli import scripts
from cspace_jax.errors import UserError
from cspace_jax.storage.workdir import Workdir
from experiments import soak

MOST = 1.2
STAGES = ("train", "evaluate")


def measured(arguments: Sequence[str], folder: pathlib.Path) -> tuple[float, float]:
    """Carry out a command in a workdir, and return its seconds and its largest resident memory in MB.

    Raises:
      UserError: it fails.
    """
    began = time.monotonic()
    seen = soak.watched(arguments, folder)
    return time.monotonic() - began, max(one.megabytes for one in seen)


def study(runs: int, saves: int) -> tuple[str, ...]:
    """Return the command line of the tiny study, one level with so many seeds."""
    seeds = tuple(100 * i for i in range(runs))
    more = (f"--config.optim.steps={saves}", f"--config.save.count={saves}", "--config.save.start=1")
    return (*soak.ARGUMENTS, f"--config.grid.seeds={seeds}", *more)


def run(arguments: Sequence[str]) -> None:
    """Carry out the command line.

    Raises:
      UserError: a study fails.
      SystemExit: with code 1, as a run of a larger grid costs more.
    """
    parser = scripts.Parser(prog="python -m experiments.grid_load", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--workdir", required=True, help="folder of the studies, which are made anew")
    parser.add_argument("--runs", type=scripts.comma_separated(int), default=(32, 512), help="of each grid, ascending")
    parser.add_argument("--saves", type=int, default=64, help="asked for, and steps; two on one step are one")
    flags = parser.parse_args(arguments)
    if min(flags.runs, default=0) < 1 or list(flags.runs) != sorted(flags.runs):
        raise UserError(f"runs = {flags.runs}: must be numbers of at least 1, ascending")
    root = pathlib.Path(flags.workdir).absolute()
    root.mkdir(parents=True, exist_ok=True)
    print("| runs | time | training, evaluation | time a run | peak memory | memory a run |\n|---|---|---|---|---|---|")
    each = []
    for runs in flags.runs:
        folder = root / f"runs_{runs}"
        shutil.rmtree(folder, ignore_errors=True)
        seconds, megabytes = measured(study(runs, flags.saves), folder)
        times = json.loads(Workdir(epath.Path(folder)).times.read_text())
        stages = ", ".join(f"{times[name]:.0f} s" for name in STAGES)
        each.append((seconds / runs, megabytes / runs))
        cells = (
            f"{runs}",
            f"{seconds:.0f} s",
            stages,
            f"{each[-1][0]:.2f} s",
            f"{megabytes:.0f} MB",
            f"{each[-1][1]:.1f} MB",
        )
        print(f"| {' | '.join(cells)} |", flush=True)
    seconds, megabytes = measured(("--mode=figures", "--config.figures=('all',)"), root / f"runs_{flags.runs[-1]}")
    saves = len(list((root / f"runs_{flags.runs[-1]}").glob("eval/wave_000/*.npz")))
    print(f"\n`--mode=figures` of {flags.runs[-1]} runs x {saves} saves: {seconds:.0f} s, {megabytes:.0f} MB")
    if any(later > MOST * first for one in each for first, later in zip(each[0], one, strict=True)):
        raise SystemExit(1)


if __name__ == "__main__":
    scripts.start(run)

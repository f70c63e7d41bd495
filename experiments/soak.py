"""Does a long command grow? A tiny study of many steps and saves, its memory and open files watched from outside.

    python -m experiments.soak --workdir=runs/soak

Memory (resident) and open files at the end of training and of evaluation are compared with those after a tenth of each.
Linux only. Exit code 1 if memory grew by more than 5 %, or if more files are open.
"""

import dataclasses
import os
import pathlib
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from cspace_jax.cli import scripts
from cspace_jax.errors import UserError
from experiments import narrow
from experiments.torture_bench import ROOT, last_line

GROWTH = 1.05
ARGUMENTS = (
    "--config=signal:smoke",
    "--config.grid.sep_col=(0.4,)",
    "--config.figures=()",
    *narrow.FLAGS,
    "--config.evaluate.losses=False",
    "--config.save.keep=all",
)


@dataclasses.dataclass(frozen=True)
class Seen:
    """The state of a process at a moment: saves written, evaluations written, resident MB, open files."""

    saves: int
    evaluations: int
    megabytes: float
    files: int


def watch(running: subprocess.Popen, folder: pathlib.Path) -> list[Seen]:
    """Look at a process four times a second until it ends."""
    found = []
    while running.poll() is None:
        try:
            status = pathlib.Path(f"/proc/{running.pid}/status").read_text()
            files = len(os.listdir(f"/proc/{running.pid}/fd"))
            resident = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        except (OSError, StopIteration):  # it ended meanwhile
            break
        saves, evaluations = (len(list(folder.glob(what))) for what in ("checkpoints/*/params/[0-9]*", "eval/*/*.npz"))
        found.append(Seen(saves, evaluations, int(resident.split()[1]) / 1024, files))
        time.sleep(0.25)
    return found


def watched(arguments: Sequence[str], folder: pathlib.Path) -> list[Seen]:
    """Carry out a command in a workdir, and return what was seen of it.

    Its output goes into a file beside the workdir.

    Raises:
      UserError: it fails.
    """
    log = folder.with_suffix(".txt")
    line = [sys.executable, "-m", "cspace_jax.main", *arguments, f"--workdir={folder}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CSPACE_JAX_RESTARTED": "1"}
    with log.open("w") as output:
        running = subprocess.Popen(line, stdout=output, stderr=output, env=environment)
        seen = watch(running, folder)
    if running.wait():
        raise UserError(f"the study in {folder} ended with {running.returncode}: {last_line(log.read_text())}")
    return seen


def grown(seen: Sequence[Seen], done: Callable[[Seen], int], total: int) -> tuple[Seen, Seen]:
    """Return the memory and the files after a tenth of a stage and at its end.

    Of nine looks each these are the median memory and the fewest files, since a save or a write in progress holds more
    files open. `done` counts what a look has seen of the stage, of `total`.

    Raises:
      UserError: the stage was over too soon to be seen.
    """
    within = [one for one in seen if total // 10 <= done(one) < total]
    if len(within) < 18:
        raise UserError(f"the stage was seen {len(within)} times, that is too few; raise steps or saves")
    return _usual(within[:9]), _usual(within[-9:])


def _usual(looks: Sequence[Seen]) -> Seen:
    median = sorted(looks, key=lambda one: one.megabytes)[len(looks) // 2]
    return dataclasses.replace(median, files=min(one.files for one in looks))


def run(arguments: Sequence[str]) -> None:
    """Carry out the command line.

    Raises:
      UserError: the study fails, or is over too soon.
      SystemExit: with code 1, as memory or open files grew.
    """
    parser = scripts.Parser(prog="python -m experiments.soak", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--workdir", required=True, help="folder of the study, which is made anew")
    parser.add_argument("--steps", type=int, default=20_000, help="of training")
    parser.add_argument("--saves", type=int, default=200, help="all of which are kept and evaluated")
    flags = parser.parse_args(arguments)
    folder = pathlib.Path(flags.workdir).absolute()
    shutil.rmtree(folder / "study", ignore_errors=True)
    more = ("--config.grid.seeds=(0,)", f"--config.optim.steps={flags.steps}", f"--config.save.count={flags.saves}",
            "--config.save.start=100")  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    seen = watched((*ARGUMENTS, *more), folder / "study")
    stages = {"training": lambda one: one.saves, "evaluation": lambda one: one.evaluations}
    print("| stage | after a tenth | at its end | growth |\n|---|---|---|---|")
    failed = False
    for name, done in stages.items():
        early, late = grown(seen, done, flags.saves)
        cells = [f"{one.megabytes:.0f} MB, {one.files} open files" for one in (early, late)]
        print(f"| {name} | {cells[0]} | {cells[1]} | {late.megabytes / early.megabytes - 1:+.1%} |", flush=True)
        failed |= late.megabytes > GROWTH * early.megabytes or late.files > early.files
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    scripts.start(run)

"""How long do the results of a large grid take?

Timed are the merge, table, summary, figures and page of a study as large.

    python -m experiments.load --results=docs/data/hidden.nc --runs=512 --saves=220
    python -m experiments.load --workdir=runs/load --runs=512 --saves=220

With --results the runs of a finished study are repeated under new seeds, in four levels of the colour signal, and its
saves to as many as asked for; all is done in this process. With --workdir the files of a study of that size are written
(`load_files.py`), then `--mode=elicit` merges them and `--mode=figures` draws them, as a user would. Numbers mean
nothing; times and memory do. The yardstick is the time in which this machine unpacks the same files, and no more.
"""

import contextlib
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr
from etils import epath

from cspace_jax.analysis import summary
from cspace_jax.cli import scripts
from cspace_jax.config import from_config_dict
from cspace_jax.errors import UserError
from cspace_jax.explorer import page
from cspace_jax.npz_archives import read_npz
from cspace_jax.plots.figures import Inputs, draw_all
from cspace_jax.plots.registry import names
from cspace_jax.storage import results
from cspace_jax.storage.workdir import Workdir
from experiments import load_files
from experiments.torture_bench import ROOT, last_line

COMMANDS = (("--mode=elicit",), ("--mode=figures",))


def repeated(ds: xr.Dataset, runs: int, saves: int) -> xr.Dataset:
    """Return a dataset with so many runs and saves, those of `ds` repeated."""
    last = int(ds["step"].values[-1])
    steps = np.unique(np.linspace(max(1, last // saves), last, saves).astype(int))
    ds = ds.reindex(step=steps, method="nearest").isel(run=np.arange(runs) % ds.sizes["run"])
    level = np.arange(runs) % len(load_files.LEVELS)
    seeds = np.arange(runs) // len(load_files.LEVELS) * 100
    levels = np.array(load_files.LEVELS)[level]
    return ds.assign_coords(run=np.arange(runs), seed=("run", seeds), sep_col=("run", levels))


def measured(name: str, call: Callable[[], Any]) -> Any:
    """Call a function, print its time and the peak memory of the process so far, and return what it returned."""
    began = time.monotonic()
    found = call()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"| {name} | {time.monotonic() - began:.1f} s | {peak:.2f} GB |", flush=True)
    return found


def commanded(arguments: Sequence[str], folder: pathlib.Path) -> tuple[float, float]:
    """Carry out a command in a workdir; return its seconds and the largest resident memory that it had, in GB.

    Raises:
      UserError: it fails.
    """
    line = [sys.executable, "-m", "cspace_jax.main", *arguments, f"--workdir={folder}"]
    peak = 0.0
    with tempfile.TemporaryFile("w+") as output:
        began = time.monotonic()
        running = subprocess.Popen(line, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=output, stderr=output)
        try:
            while running.poll() is None:
                peak = max(peak, _high_water(running.pid))
                time.sleep(0.05)
        finally:  # this script may be interrupted
            running.kill()
            running.wait()
        seconds = time.monotonic() - began
        output.seek(0)
        if running.returncode:
            last = last_line(output.read())
            raise UserError(f"{arguments[0]} in {folder} ended with {running.returncode}: {last}")
    return seconds, peak


def _high_water(pid: int) -> float:
    """Return the largest resident memory of a running process so far, in GB: what `wait4` tells counts ours as well."""
    with contextlib.suppress(OSError):
        for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1e6
    return 0.0


def unpacked(folder: pathlib.Path) -> tuple[float, float]:
    """Unpack every evaluation and answer of a workdir once; return the seconds, and GB of the files."""
    began, size = time.monotonic(), 0
    for file in (*folder.glob("eval/*/*.npz"), *folder.glob("elicit/*/*/*.npz")):
        read_npz(file)
        size += file.stat().st_size
    return time.monotonic() - began, size / 1e9


def _of_files(folder: pathlib.Path, runs: int, saves: int) -> None:
    study, queries = load_files.write(folder, runs, saves)
    yardstick, size = unpacked(folder)
    print(f"{runs} runs, {len(study.steps)} saves, {queries} queries: {size:.2f} GB, unpacked in {yardstick:.1f} s")
    print("| | time | of the unpacking | peak memory |\n|---|---|---|---|")
    for arguments in COMMANDS:
        seconds, peak = commanded(arguments, folder)
        print(f"| `{arguments[0]}` | {seconds:.1f} s | {seconds / yardstick:.1f} | {peak:.2f} GB |", flush=True)


def run(arguments: Sequence[str]) -> None:
    """Carry out the command line.

    Raises:
      UserError: the user can put something right, such as bad arguments.
    """
    parser = scripts.Parser(prog="python -m experiments.load", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--results", default="", help="concept_space.nc of a finished study, or its workdir")
    parser.add_argument("--workdir", default="", help="of the study whose files are written; new")
    parser.add_argument("--runs", type=int, default=512, help="of the study")
    parser.add_argument("--saves", type=int, default=220, help="of the study; two on one step are one")
    asked = parser.parse_args(arguments)
    if asked.runs < 1 or asked.saves < 1:
        raise UserError(f"runs = {asked.runs}, saves = {asked.saves}: must be at least 1")
    if bool(asked.results) == bool(asked.workdir):
        raise UserError("results, workdir: exactly one of both must be given")
    if asked.workdir:
        return _of_files(pathlib.Path(asked.workdir).absolute(), asked.runs, asked.saves)
    ds = repeated(results.open_results(asked.results), asked.runs, asked.saves)
    config = results.config_of(ds)
    inputs = Inputs(ds, {}, from_config_dict(config).data)
    print(f"{asked.runs} runs, {ds.sizes['step']} saves, {ds.sizes.get('query', 1)} queries, {ds.nbytes / 1e6:,.0f} MB")
    print("| | time | peak memory so far |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        target = epath.Path(folder)
        measured("dataset and table", lambda: results.write_results(ds, Workdir(target)))
        found = measured("summary", lambda: summary.summarise(ds))
        measured("figures", lambda: draw_all(inputs, target, tuple(names()), show=lambda _: None))
        measured("page", lambda: page.render(page.Inputs(ds, found, "", config, {}, {}, {})))


if __name__ == "__main__":
    scripts.start(run)

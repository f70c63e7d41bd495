"""How long do results of a large grid take: table, summary, figures and page of a study that is repeated to its size?

    python -m experiments.load --results=docs/data/hidden.nc --runs=512 --saves=220

The runs of a finished study are repeated under new seeds, in four levels of the colour signal, and its saves to as many
as asked for. Numbers mean nothing; times and memory do.
"""

import resource
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
from cspace_jax.plots.figures import Inputs, draw_all
from cspace_jax.plots.registry import names
from cspace_jax.storage import results
from cspace_jax.storage.workdir import Workdir

LEVELS = (0.2, 0.3, 0.4, 0.8)


def repeated(ds: xr.Dataset, runs: int, saves: int) -> xr.Dataset:
    """Return a dataset with so many runs and saves, those of `ds` repeated."""
    last = int(ds["step"].values[-1])
    steps = np.unique(np.linspace(max(1, last // saves), last, saves).astype(int))
    ds = ds.reindex(step=steps, method="nearest").isel(run=np.arange(runs) % ds.sizes["run"])
    level = np.arange(runs) % len(LEVELS)
    seeds = np.arange(runs) // len(LEVELS) * 100
    return ds.assign_coords(run=np.arange(runs), seed=("run", seeds), sep_col=("run", np.array(LEVELS)[level]))


def measured(name: str, call: Callable[[], Any]) -> Any:
    """Call a function, print its time and the peak memory of the process so far, and return what it returned."""
    began = time.monotonic()
    found = call()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"| {name} | {time.monotonic() - began:.1f} s | {peak:.2f} GB |", flush=True)
    return found


def run(arguments: Sequence[str]) -> None:
    """Carry out the command line; UserError for what the user can put right."""
    parser = scripts.Parser(prog="python -m experiments.load", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--results", required=True, help="concept_space.nc of a finished study, or its workdir")
    parser.add_argument("--runs", type=int, default=512, help="of the repeated study")
    parser.add_argument("--saves", type=int, default=220, help="of the repeated study")
    asked = parser.parse_args(arguments)
    if asked.runs < 1 or asked.saves < 1:
        raise UserError(f"runs = {asked.runs}, saves = {asked.saves}: must be at least 1")
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

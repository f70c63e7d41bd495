"""When each run turns, to the spacing of the saves and to that of steps added around it."""

import dataclasses

import numpy as np
import xarray as xr

from cspace_jax.analysis import curves, learning
from cspace_jax.analysis.levels import unseen


@dataclasses.dataclass(frozen=True)
class RunTurn:
    """The turning step of a run's first held-out class.

    Attributes:
      run: row of the grid.
      klass: the class.
      concept: the one that is held back.
      by_saves: turning step among the saves, of the trajectory smoothed as in the summary.
      spacing: steps between the saves on either side of it.
      zoomed: added or saved step, within the added ones, at which the probability of the concept's correct value is
        smallest, without smoothing; NaN if no steps were added around it.
      zoomed_spacing: largest distance in steps between neighbours there.
    """

    run: int
    klass: str
    concept: str
    by_saves: float
    spacing: float
    zoomed: float = float("nan")
    zoomed_spacing: float = float("nan")


def turns(ds: xr.Dataset, added: xr.Dataset | None = None) -> list[RunTurn]:
    """Return the turns of all runs that turn (`curves.find_memorisation`), in the order of the grid.

    Args:
      ds: labelled dataset of the saves.
      added: the same of added steps, or None.
    """
    klass = unseen(ds)[0]
    protocol = str(ds["protocol"].values[0])
    steps, bits, trained = ds["step"].values, ds["bit"].values, ds["trained"].values
    paths = learning.trajectory(ds, range(ds.sizes["run"]), klass, protocol, learning.default_sigma(ds))
    found = []
    for run, path in enumerate(paths):
        if ds["status"].values[run] != "ok":
            continue
        one = curves.find_memorisation(steps, path, bits, klass, trained)
        if np.isfinite(one.turning_step):
            here = int(np.flatnonzero(steps == one.turning_step)[0])
            gap = float(steps[min(here + 1, len(steps) - 1)] - steps[max(here - 1, 0)])
            names = str(ds["klass"].values[klass]), str(ds["concept"].values[one.weak])
            turn = RunTurn(run, *names, one.turning_step, gap)
            found.append(turn if added is None else _zoomed(turn, ds, added, bool(bits[klass, one.weak])))
    return found


def _zoomed(turn: RunTurn, ds: xr.Dataset, added: xr.Dataset, bit: bool) -> RunTurn:
    if turn.run not in added["run"].values:
        return turn

    def curve(one: xr.Dataset) -> xr.DataArray:
        chosen = one["prob"].sel(run=turn.run, klass=turn.klass, concept=turn.concept)
        prob = chosen.sel(protocol=one["protocol"].values[0]).reset_coords(drop=True).dropna("step")
        return prob if bit else 1 - prob

    fine = curve(added)
    if fine.sizes["step"] < 2:
        return turn
    low, high = int(fine["step"].min()), int(fine["step"].max())
    both = xr.concat([fine, curve(ds).sel(step=slice(low, high))], "step").sortby("step")
    steps = both["step"].values
    spacing = float(np.diff(steps).max())
    return dataclasses.replace(turn, zoomed=float(steps[np.argmin(both.values)]), zoomed_spacing=spacing)

"""Numbers of studies of pictures: what the probe makes of real ones, and a stand-in for the concept signal."""

from typing import Any

import xarray as xr

from cspace_jax.analysis.levels import levels
from cspace_jax.analysis.summary_blocks import summary_block


def has_reading(ds: xr.Dataset) -> bool:
    """Return whether a study is one of pictures, whose held-out ones the probe has read."""
    return {"reading", "mean_distance"} <= set(map(str, ds.data_vars))


@summary_block("pictures", when=has_reading)
def pictures(ds: xr.Dataset) -> dict[str, Any]:
    """Return how the probe reads held-out pictures of each class, and the stand-ins for the concept signal.

    `mean_distance` is of class-mean pictures; `exchange`, by level, the mean rise of the validation loss in bits per
    dimension at the last save when one concept is named wrongly.
    """
    concepts = [str(name) for name in ds["concept"].values]
    reading = {
        str(klass): dict(zip(concepts, map(float, row), strict=True))
        for klass, row in zip(ds["klass"].values, ds["reading"].values, strict=True)
    }
    distance = dict(zip(concepts, map(float, ds["mean_distance"].values), strict=True))
    found: dict[str, Any] = {"reading": reading, "mean_distance": distance}
    if "exchange" in ds:
        rises = ds["exchange"].isel(step=-1).transpose("run", "concept").values
        found["exchange"] = {
            level.label: dict(zip(concepts, rises[list(level.runs)].mean(axis=0).tolist(), strict=True))
            for level in levels(ds)
            if level.runs
        }
    return found

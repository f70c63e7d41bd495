"""Two studies side by side: one that is later than the other, and the row of what was found."""

import numpy as np

SEEDS = tuple(range(0, 600, 100))


def later(ds, factor=1.25, seeds=SEEDS):
    """The same curves, each step a factor later, for some of the seeds."""
    moved = ds.assign_coords(step=(factor * ds["step"].values).astype(int))
    return moved.isel(run=np.isin(ds["seed"].values, seeds))


def row(found, level, klass, concept):
    (one,) = [r for r in found["rows"] if (r["level"], r["klass"], r["concept"]) == (level, klass, concept)]
    return one

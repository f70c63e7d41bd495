"""Comparisons of protocols with naive prompting and with their controls, seed by seed."""

import math

import asked
import numpy as np
import pytest

from cspace_jax.analysis import (
    tables,
)


def test_a_broken_query_leaves_its_seed_out_of_a_comparison():
    ds = asked.battery(asked.HIDDEN)
    ds["best_query"] = ds["capability"]
    ds["capability_split"].values[0, 3, asked.PROTOCOLS.index("latent"), 3] = np.nan
    row = tables.select(ds, "comparisons").loc[("the one setting", "11", "latent", "naive")]
    assert row["seeds"] == 5 and math.isfinite(row["difference"]) and row["p"] == pytest.approx(2 / 2**5)
    assert row["sooner"] == 5 and row["p_times"] == pytest.approx(2 / 2**5)

"""Blocks of the summary as tables, by name."""

import asked
import pytest

from cspace_jax.analysis import (
    tables,
)
from cspace_jax.analysis.claims import SHOWN, UNTOLD


def test_verdicts_and_comparisons_are_tables_too():
    ds = asked.battery(asked.HIDDEN)
    ds["best_query"] = ds["capability"]
    verdicts = tables.select(ds, "claims")
    assert verdicts.loc["d", "verdict"] == SHOWN and verdicts.loc["a", "verdict"] == UNTOLD
    assert verdicts.loc["d", "low"] < verdicts.loc["d", "median"] < verdicts.loc["d", "high"]
    assert verdicts.loc["e", "definition"] == "stays_80" and verdicts.loc["e", "no_interval"]
    compared = tables.select(ds, "comparisons")
    row = compared.loc[("the one setting", "11", "latent", "naive")]
    assert row["low"] < row["difference"] < row["high"] and row["p"] == pytest.approx(2 / 2**6)
    assert row["p_holm"] == pytest.approx(6 * 2 / 2**6)  # six comparisons, all as clear
    assert row["sooner"] == 6 and row["later"] == 0 and row["p_times"] == pytest.approx(2 / 2**6)
    assert compared.index.get_level_values("against").tolist().count("naive") == 3
    assert tables.select(asked.turning_study(asked.SEEDS, 120), "comparisons").empty

"""Verdicts on the paper's claims as rows, tables and text, and comparisons of protocols beside them."""

import io
import math

import asked
import numpy as np
import pytest
from rich.console import Console

from cspace_jax.analysis import (
    capability,
    claims,
    comparison,
    report,
    summary,
    tables,
    verdict_tables,
)
from cspace_jax.analysis.claims import CONTRADICTED, NOT_SHOWN, SHOWN, UNTOLD
from cspace_jax.analysis.testing import UNTOLD as UNTOLD_TEST
from cspace_jax.analysis.testing import Outcome


def test_the_verdict_of_a_test():
    judge = claims.judge
    assert judge(Outcome(1.0, 0.03, 0.99, 0.01, 0.01), 6).verdict == SHOWN
    assert judge(Outcome(1.0, 0.03, 0.99, 0.01, 0.01), 6, "less").verdict == CONTRADICTED
    assert judge(Outcome(1.0, 0.3, 0.8, 0.01, 0.01), 6).verdict == NOT_SHOWN
    few = judge(Outcome(1.0, 0.25, 1.0, 0.25, 0.25), 2)
    assert few.verdict == UNTOLD and "n = 2" in few.why and math.isnan(few.p)
    # The least is that of the side on which the claim holds; the other side may still contradict it.
    assert judge(Outcome(1.0, 0.11, 1.0, 0.11, 0.01), 2).verdict == UNTOLD
    assert judge(Outcome(0.0, 1.0, 0.01, 0.11, 0.01), 2).verdict == CONTRADICTED
    unmet = judge(Outcome(1.0, 0.03, 0.99, 0.01, 0.01), 6, needs=(False, "a control does the same"))
    assert (unmet.verdict, unmet.why) == (NOT_SHOWN, "a control does the same")
    assert judge(UNTOLD_TEST, 6).verdict == UNTOLD


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


def test_a_broken_query_leaves_its_seed_out_of_a_comparison():
    ds = asked.battery(asked.HIDDEN)
    ds["best_query"] = ds["capability"]
    ds["capability_split"].values[0, 3, asked.PROTOCOLS.index("latent"), 3] = np.nan
    row = tables.select(ds, "comparisons").loc[("the one setting", "11", "latent", "naive")]
    assert row["seeds"] == 5 and math.isfinite(row["difference"]) and row["p"] == pytest.approx(2 / 2**5)
    assert row["sooner"] == 5 and row["p_times"] == pytest.approx(2 / 2**5)


def test_a_broken_query_leaves_its_seed_out_of_the_table_of_protocols():
    ds = asked.battery(asked.HIDDEN)
    for name in ("capability", "capability_split"):
        ds[name].values[0, 3, asked.PROTOCOLS.index("latent"), 3] = np.nan
    ds["naive_split"].values[1, 3, asked.PROTOCOLS.index("latent"), 3] = np.nan
    (level,) = capability.summarise(ds)
    block = level["classes"]["11"]["latent"]
    assert (block["emergence"]["seeds"], block["emergence"]["learned"], block["emergence_max"]["seeds"]) == (5, 5, 5)
    assert (block["sooner_than_naive"], block["compared"]) == (4, 4)
    assert np.isnan(block["gap_to_naive"]).tolist() == [True, True, False, False, False, False]
    assert math.isfinite(block["final"]) and math.isfinite(block["final_split"]) and math.isfinite(block["best_split"])
    assert level["classes"]["11"]["naive"]["emergence"]["seeds"] == 6
    ds["capability_split"].values[:, 3, asked.PROTOCOLS.index("latent"), 3] = np.nan
    nothing = capability.summarise(ds)[0]["classes"]["11"]["latent"]
    assert nothing["emergence"]["seeds"] == 0 and math.isnan(nothing["best_split"])


def test_comparisons_say_where_they_are_unfair_and_where_seeds_are_too_few():
    ds = asked.battery(asked.HIDDEN, seeds=asked.SEEDS[:5])
    ds["best_query"] = ds["capability"]
    names = ["naive", "naive_repeats", "naive_repeats", "latent", "latent", "latent", "overprompt", "patch"]
    ds = ds.assign_coords(query_protocol=("query", names), query_value=("query", [""] * len(names)))
    found = tables.select(ds, "comparisons").loc[("the one setting", "11", "latent", "naive")]
    assert found["p_least"] == pytest.approx(6 * 2 / 2**5) and found["p_holm"] >= found["p_least"]
    console = Console(width=200, record=True, file=io.StringIO())
    verdict_tables.print_comparisons(comparison.comparisons(ds), console)
    text = " ".join(console.export_text().split())
    assert "UNFAIR to naive prompting: it chose among 2 queries where a protocol chose among up to 3" in text
    assert "the smallest p that the correction leaves is 0.38" in text


def test_the_terminal_shows_comparisons_and_verdicts():
    ds = asked.battery(asked.HIDDEN)
    ds["best_query"] = ds["capability"]
    console = Console(width=80, record=True, file=io.StringIO())
    report.print_summary(summary.summarise(ds), console)
    text = " ".join(console.export_text().split())
    assert "Protocols against naive prompting and their controls, seed by seed" in text
    assert "latent naive +0." in text and "overprompt_random" in text
    assert "cannot be told: a, b, j: one level of concept signal: it takes two." in text
    assert "one-sided, by rearranging the study itself" in text
    (row,) = [one for one in claims.verdicts(ds) if one["claim"] == "d"]
    low, high = row["interval"]
    assert f"{row['value']:.2f}, median {row['median']:.2f} [{low:.2f}, {high:.2f}]" in text
    assert "no 95 % interval: e: a ratio of variances of so few seeds" in text and "learned: e: stays_80." in text

"""The words for learning times in tables."""

import io

import asked
import numpy as np
import pytest
from rich.console import Console

from cspace_jax.analysis import (
    claims,
    comparison,
    learning,
    report,
    summary,
    tables,
    verdict_tables,
)


def test_a_time_at_the_first_save_is_no_more_than_that():
    """Six seeds are above from the first save on, four cross later."""
    steps = np.array([150, 300, 450, 600])
    curves_of = np.array([[0.9, 0.9, 0.9, 0.9]] * 6 + [[0.1, 0.7, 0.9, 0.9]] * 4)
    found = learning.describe_times(learning.times_by("stays_80", steps, curves_of), steps)
    assert found["first_save"] == 150
    assert verdict_tables.time_words(found) == "≤ 150 [≤ 150, 375]"
    assert report.time_text(found) == "<=150"
    later = learning.describe_times(np.full(6, 300.0), steps)
    assert verdict_tables.time_words(later) == "300 [300, 300]"
    never = learning.describe_times(np.full(6, np.nan), steps)
    assert verdict_tables.time_words(never) == "never, 0 of 6"
    nobody = learning.describe_times(np.array([]), np.array([150, 300]))
    assert verdict_tables.time_words(nobody) == "unknown"


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


def test_a_number_that_no_seed_has_is_unknown():
    found = {"mean": float("nan"), "interval": [float("nan")] * 2, "per_seed": []}
    assert verdict_tables.with_interval(found) == "unknown"

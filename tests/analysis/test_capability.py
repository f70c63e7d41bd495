"""Scores of what protocols elicit, by hand."""

import math

import asked
import numpy as np
import pytest

from cspace_jax.analysis import (
    capability,
)

BITS = np.array([[1, 1]])


def test_joint_score_by_hand():
    prob = np.array([[[[0.9, 0.8], [0.5, 0.2]]]])  # one query, one class, two samples
    scores, product = capability.joint(capability.correct(prob, np.array([[1, 0]])))
    np.testing.assert_allclose(scores, [[[0.9 * 0.2, 0.5 * 0.8]]], rtol=1e-6)
    np.testing.assert_allclose(product, [[0.7 * 0.5]], rtol=1e-6)


def test_the_split_estimate_does_not_count_the_maximum_as_capability():
    """Thirty queries that are all worth one half: the maximum looks better than any, the split estimate does not."""
    generator = np.random.default_rng(0)
    scores = generator.integers(0, 2, (400, 30, 1, 8)).astype(float)
    split = capability.split_capability(scores)[:, 0]
    assert scores.mean(-1).max(1).mean() > 0.8
    assert abs(split.mean() - 0.5) < 4 * split.std() / math.sqrt(len(split))


def test_measures_of_two_protocols_by_hand():
    prob = np.zeros((1, 3, 1, 2, 2), np.float32)
    prob[0, 0] = [[[0.5, 0.5], [0.5, 0.5]]]
    prob[0, 1] = [[[1.0, 0.5], [0.0, 0.5]]]  # joint .25
    prob[0, 2] = [[[1.0, 1.0], [1.0, 0.0]]]  # joint .5, product of means .5
    found = capability.measure(prob, BITS, ["naive", "two", "two"])
    np.testing.assert_allclose(found["capability"][0, :, 0], [0.25, 0.5])
    np.testing.assert_allclose(found["capability_product"][0, :, 0], [0.25, 0.5])
    # Even half: queries (.5, 1), odd half: (0, 0), where the first is taken: (0 + .5) / 2.
    np.testing.assert_allclose(found["capability_split"][0, :, 0], [0.25, 0.25])
    # The same with one concept alone. First: queries (1, 1), of a tie the first scores 0; (0, 1) scores 1. Second: .25.
    np.testing.assert_allclose(found["capability_concept"][0, :, 0], [[0.5, 0.5], [0.5, 0.25]])
    assert found["best_query"][0, :, 0].tolist() == [0, 1]
    np.testing.assert_array_equal(found["prob_samples"][0, 1, 0], prob[0, 2, 0])


def test_emergence_is_persistent_and_never_is_nan():
    steps = np.array([10, 20, 30, 40])
    times = capability.emergence(steps, np.array([[0.0, 0.9, 0.0, 1.0], [0.9, 0.9, 0.9, 0.9], [0.0, 0.9, 0.9, 0.7]]))
    assert times[0] == pytest.approx(38.0) and times[1] == 10 and np.isnan(times[2])


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

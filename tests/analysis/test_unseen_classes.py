"""The order in which unseen classes of three concepts are learned, on curves that are known."""

import numpy as np
import pytest
import synthetic

from cspace_jax.analysis import unseen_classes
from cspace_jax.analysis.summary import summarise

STEPS = tuple(range(100, 2001, 100))
THREE = ("color", "size", "bg_color")


@pytest.fixture
def ds():
    """Training classes are learned from step 500 on, 011 from 800, 101 from 1,200, 110 at 1,500 only, 111 never."""
    found = synthetic.dataset(levels=(0.4,), seeds=(0, 1), active=THREE, steps=STEPS)
    accuracy, prob = np.zeros((2, len(STEPS), 1, 8, 3)), np.full((2, len(STEPS), 1, 8, 3), 0.5)
    since = {0: 500, 1: 500, 2: 500, 4: 500, 3: 800, 5: 1200}
    for klass, step in since.items():
        accuracy[:, np.array(STEPS) >= step, 0, klass] = 1.0
    accuracy[:, STEPS.index(1500), 0, 6] = 0.9
    accuracy[:, :, 0, 7, :2] = 1.0  # never on all concepts
    bits = found["bit"].values
    prob[:, :, 0] = bits
    prob[:, :, 0, 3] = bits[2]  # 011 is drawn as 010 throughout
    found["accuracy"] = (found["accuracy"].dims, accuracy.astype(np.float32))
    found["prob"] = (found["prob"].dims, prob.astype(np.float32))
    return found


def test_steps_distances_and_neighbours_are_those_of_the_curves(ds):
    (level,) = unseen_classes.approach(ds)
    assert level["converged_step"] == [500, 500]
    assert level["classes"]["011"]["learned_step"] == [800, 800]
    assert level["classes"]["101"]["learned_step"] == [1200, 1200]
    assert level["classes"]["110"]["learned_step"] == [1500, 1500]
    assert level["classes"]["111"]["learned_step"] == [np.inf, np.inf]
    np.testing.assert_allclose(level["classes"]["011"]["distance_when_trained"], 1.0, atol=1e-6)
    np.testing.assert_allclose(level["classes"]["111"]["distance_when_trained"], 0.0, atol=1e-6)
    assert level["classes"]["011"]["approached"] == ["010", "010"]


def test_it_stands_in_the_summary_of_three_concepts_only(ds):
    assert summarise(ds)["approach"][0]["classes"].keys() == {"011", "101", "110", "111"}
    assert "approach" not in summarise(synthetic.dataset(levels=(0.2,), seeds=(0,), steps=STEPS))


def test_training_that_never_converges_has_no_distance(ds):
    ds["accuracy"][dict(klass=1)] = 0.9
    (level,) = unseen_classes.approach(ds)
    assert level["converged_step"] == [np.inf, np.inf]
    assert np.isnan(level["classes"]["011"]["distance_when_trained"]).all()

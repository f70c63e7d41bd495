"""Claims about learning are rarely shown by chance: the levels of a study exchanged, turns that are drawn."""

import math

import asked
import numpy as np
import pytest

from cspace_jax.analysis import claims_of_learning, testing
from cspace_jax.analysis.claims import CLAIMS, SHOWN
from cspace_jax.analysis.testing import ALPHA


def shuffled(ds, seed):
    """The same study with the levels of every seed exchanged: what was measured stays, the settings move."""
    rng = np.random.default_rng(seed)
    order = np.arange(ds.sizes["run"])
    for one in np.unique(ds["seed"].values):
        runs = np.flatnonzero(ds["seed"].values == one)
        order[runs] = rng.permutation(runs)
    moved = ds.copy()
    for name in ("prob", "accuracy", "joint_accuracy", "joint_prob"):
        moved[name] = (ds[name].dims, ds[name].values[order])
    return moved


@pytest.fixture(scope="module")
def sweep():
    return asked.swept()


@pytest.fixture(scope="module")
def three():
    return asked.swept(asked.THREE)


@pytest.mark.parametrize("letter", ["a", "b", "j"])
def test_shuffled_levels_are_rarely_shown(sweep, letter):
    verdicts = [CLAIMS[letter].ask(shuffled(sweep, seed)).verdict for seed in range(60)]
    assert verdicts.count(SHOWN) <= 60 * 0.05 + 2.5 * math.sqrt(60 * 0.05 * 0.95)


@pytest.mark.parametrize("letter", ["a", "b", "j"])
def test_shuffled_levels_of_three_concepts_are_rarely_shown(three, letter):
    verdicts = [CLAIMS[letter].ask(shuffled(three, seed)).verdict for seed in range(40)]
    assert verdicts.count(SHOWN) <= 40 * 0.05 + 2.5 * math.sqrt(40 * 0.05 * 0.95)


@pytest.mark.parametrize("alike", [True, False])
def test_turns_of_several_classes_are_rarely_near_by_chance(alike):
    """Four classes whose turns fall on one drawn save, or on one each; every class has a fastest step of its own."""
    rng, steps = np.random.default_rng(0), np.arange(1.0, 21)
    alarms = []
    for _ in range(400):
        here, near = [], []
        for _ in range(6):
            chances = [claims_of_learning.nearness_to(rng.choice(steps), steps) for _ in range(4)]
            saves = np.repeat(rng.integers(20), 4) if alike else rng.integers(20, size=4)
            here.append(float(np.mean([one[save] for one, save in zip(chances, saves, strict=True)])))
            near.append(claims_of_learning.together(chances))
        alarms.append(testing.drawn(here, near).greater <= ALPHA)
    assert np.mean(alarms) <= 0.05
    one = np.array([0.2, 0.9, 0.4])
    assert claims_of_learning.together([one]) is one
    assert claims_of_learning.together([one, 1 - one]) == pytest.approx([0.15, 0.5, 0.85])

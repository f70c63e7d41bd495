"""One exponent for all levels: recovered from its own trajectories, with an interval, no better than free fits."""

import itertools

import numpy as np
import pytest
import synthetic

from cspace_jax.analysis import curves, landscape, shared_landscape
from cspace_jax.analysis.learning import trajectory
from cspace_jax.analysis.levels import levels

SIGNALS = np.array([[0.01, 0.05], [0.02, 0.05], [0.05, 0.05], [0.1, 0.05]])
STEPS = np.linspace(100.0, 3100.0, 25)


def study(exponent, rate=0.006, noise=0.0):
    """Trajectories [level, t, 2] whose a is the signals' ratio to a power; later switches at weaker signals."""
    model = [
        landscape.eq1(float((size / color) ** exponent), t1, t2, rate * 120, biased=(0.0, 1.0))
        for (color, size), t1, t2 in zip(SIGNALS, (14.0, 11.0, 9.0, 6.0), (8.0, 9.0, 8.5, 9.0), strict=True)
    ]
    paths = np.stack([landscape.trajectory(one, (STEPS - 100) / 120, (0.5, 0.6)) for one in model])
    return paths + noise * np.random.default_rng(0).standard_normal(paths.shape)


def fitted(paths, signals=SIGNALS):
    free = [landscape.fit(STEPS, path) for path in paths]
    return free, shared_landscape.fit_shared(STEPS, paths, signals, free)


def test_a_by_hand():
    np.testing.assert_allclose(shared_landscape.a_of_signals(SIGNALS), [5.0, 2.5, 1.0, 0.5])
    np.testing.assert_allclose(shared_landscape.a_of_signals(SIGNALS, 0.5), np.sqrt([5.0, 2.5, 1.0, 0.5]))
    exchanged = shared_landscape.a_of_signals(SIGNALS[:, ::-1], 0.7)
    np.testing.assert_allclose(exchanged, 1 / shared_landscape.a_of_signals(SIGNALS, 0.7))


@pytest.mark.parametrize("exponent", [0.3, 0.8])
def test_exponent_and_rate_are_recovered(exponent):
    _, found = fitted(study(exponent))
    assert found.exponent == pytest.approx(exponent, abs=0.01) and found.rate == pytest.approx(0.006, rel=0.02)
    np.testing.assert_allclose(found.a, (SIGNALS[:, 1] / SIGNALS[:, 0]) ** exponent, rtol=0.03)
    np.testing.assert_allclose(found.t1, 100 + 120 * np.array([14.0, 11.0, 9.0, 6.0]), atol=15)
    assert found.residuals.max() < 1e-3


def test_the_interval_over_levels_holds_the_exponent_and_grows_with_the_noise():
    paths = study(0.8, noise=0.02)
    free, found = fitted(paths)
    low, high = found.interval
    assert low < 0.8 < high and high - low < 1.0
    calm = fitted(study(0.8, noise=0.002))[1].interval
    assert calm[1] - calm[0] < high - low
    # Fewer parameters fit no better, and no much worse where they hold the truth.
    alone = np.array([one.residual for one in free])
    assert np.sum(found.residuals**2) >= np.sum(alone**2) - 1e-9 and (found.residuals < alone + 0.01).all()
    np.testing.assert_allclose(found.residuals, np.sqrt(np.mean((found.paths - paths) ** 2, axis=(1, 2))))


def test_two_levels_have_no_interval_and_one_ratio_no_exponent():
    paths = study(0.8)
    _, found = fitted(paths[:2], SIGNALS[:2])
    assert found.exponent == pytest.approx(0.8, abs=0.02) and np.isnan(found.interval).all()
    same = np.tile(SIGNALS[:1], (2, 1))
    assert not shared_landscape.varies(same) and not shared_landscape.varies(SIGNALS[:1])
    assert not shared_landscape.varies(SIGNALS * np.nan) and not shared_landscape.varies(SIGNALS * 0)
    with pytest.raises(ValueError, match="different ratios"):
        fitted(paths[:2], same)


def best_of_grid(steps, path, actual):
    """The smallest residual of any (a, t1, t2, rate) of a grid: an axis knows its stiffness and its switch alone."""
    times = (steps - steps[0]) / (steps[-1] - steps[0]) * landscape.DURATION
    stiffness, switches = np.geomspace(0.05, 20.0, 12), np.linspace(0.0, landscape.DURATION, 14)

    def axis(i, before):
        found = []
        for k, t in itertools.product(stiffness, switches):
            both = (landscape.Term(i, k, before, actual[i], t), landscape.Term(1 - i, 1.0, 0.0, 0.0))
            found.append(np.sum((landscape.fast_trajectory(both, times, path[0])[:, i] - path[:, i]) ** 2))
        return min(found)

    return min(np.sqrt((axis(0, x) + axis(1, y)) / path.size) for x, y in ((0.0, 1.0), (1.0, 0.0)))


def test_a_free_fit_is_no_local_minimum():
    """Also where Eq. 2 does not hold: at half masked the synthetic path ends at blue, Eq. 2's target is purple."""
    made = synthetic.masked()
    for level in levels(made)[::2]:
        path = curves.smooth(trajectory(made, level.runs, 3, "naive").mean(axis=0))
        actual = (1.0 - level.setting["mask"], 1.0)
        assert landscape.fit(made["step"].values, path, actual).residual <= best_of_grid(
            made["step"].values, path, actual
        )

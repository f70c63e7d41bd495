"""Curves over training: when they cross, how they bend, and which class they come near, in closed form."""

import numpy as np
import pytest
import synthetic
from scipy import ndimage
from synthetic import logistic_crossing

from cspace_jax.analysis import curves
from cspace_jax.data import concepts

BITS = concepts.classes(("color", "size")).bits
TRAINED = np.array([True, True, True, False])


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.95])
def test_crossing_time_of_a_logistic_curve(threshold):
    steps = np.arange(0, 10001, 10.0)
    curve = synthetic.logistic(steps, 4000, 300)
    expected = logistic_crossing(4000, 300, threshold)
    assert curves.crossing_time(steps, curve, threshold) == pytest.approx(expected, abs=0.1)
    assert curves.crossing_time(steps, curve, threshold, persistence=1) == pytest.approx(expected, abs=0.1)


def test_crossing_time_asks_for_persistence():
    steps = np.arange(10) * 100.0
    curve = np.array([0, 0.9, 0.9, 0.2, 0.6, 1.0, 1.0, 1.0, 0.7, 0.9])
    assert curves.crossing_time(steps, curve) == pytest.approx(850)
    assert curves.crossing_time(steps, curve, persistence=1) == pytest.approx(100 * 0.8 / 0.9)
    assert curves.crossing_time(steps, curve, persistence=3) == pytest.approx(450)
    assert np.isnan(curves.crossing_time(steps, curve, persistence=4))
    assert np.isnan(curves.crossing_time(steps[:-1], curve[:-1]))
    assert curves.crossing_time(steps, np.ones(10)) == 0
    assert np.isnan(curves.crossing_time(steps, curve, persistence=11))
    with pytest.raises(ValueError, match="persistence"):
        curves.crossing_time(steps, curve, persistence=0)


def test_notebook_time_is_the_first_eroded_index():
    rng = np.random.default_rng(1)
    for _ in range(200):
        curve = np.clip(rng.normal(0.9, 0.12, 40), 0, 1)
        steps = np.cumsum(rng.integers(1, 50, 40))
        above = ndimage.gaussian_filter1d(curve, 1.5) > 0.9
        centres = [i for i in range(1, 39) if above[i - 1] and above[i] and above[i + 1]]
        np.testing.assert_equal(curves.notebook_time(steps, curve), float(steps[centres[0]]) if centres else np.nan)
    assert curves.notebook_time(np.arange(5), np.ones(5)) == 1  # the ends are not centres
    assert np.isnan(curves.notebook_time(np.arange(5), np.zeros(5)))


def test_smoothing_is_the_published_filter():
    values = np.random.default_rng(0).random((60, 2))
    expected = ndimage.gaussian_filter1d(values, 2, axis=0, truncate=6, mode="reflect")
    np.testing.assert_array_equal(curves.smooth(values), expected)
    np.testing.assert_array_equal(curves.smooth(values, 0), values)


def test_memorisation_of_a_constructed_trajectory():
    # start in the middle, straight to near 01 = (0, 1), then along the top edge to 11
    corner = np.array([0.1, 0.9])
    inward = np.linspace([0.5, 0.5], corner, 21)
    outward = np.linspace(corner, [1.0, 1.0], 20)[1:]
    path = np.concatenate([inward, outward])
    steps = np.arange(len(path)) * 500.0
    found = curves.find_memorisation(steps, path, BITS, 3, TRAINED)
    assert (found.nearest, found.weak, found.memorised) == (1, 0, True)
    assert found.turning_step == found.weak_step == 10000
    assert found.depth == pytest.approx(0.9)
    assert found.at_min == pytest.approx((0.1, 0.9))
    mirrored = curves.find_memorisation(steps, path[:, ::-1], BITS, 3, TRAINED)
    assert (mirrored.nearest, mirrored.weak, mirrored.turning_step) == (2, 1, 10000)
    stays = curves.find_memorisation(steps, np.concatenate([inward, np.repeat(corner[None], 19, 0)]), BITS, 3, TRAINED)
    assert stays.memorised and np.isnan(stays.turning_step)
    straight = curves.find_memorisation(steps, np.linspace([0.5, 0.5], [1, 1], len(path)), BITS, 3, TRAINED)
    assert not straight.memorised and np.isnan(straight.turning_step)


def test_turn_of_a_right_angle_is_found_where_it_is():
    path = np.concatenate([np.linspace([0.5, 0.5], [0, 0.5], 21), np.linspace([0, 0.5], [0, 1], 21)[1:]])
    steps = np.arange(len(path)) * 100.0
    turn = curves.find_turn(steps, path)
    assert turn.step == 2000 and turn.degrees == pytest.approx(90)
    assert np.isnan(curves.find_turn(steps, path, threshold=100).step)
    assert np.isnan(curves.find_turn(steps, path, early=0.6).step)
    assert np.isnan(curves.find_turn(steps, np.linspace([0, 0], [1, 1], len(path))).step)
    assert np.isnan(curves.find_turn(steps, np.full((41, 2), 0.3)).step)
    rotation = np.array([[0.6, -0.8], [0.8, 0.6]])
    assert curves.find_turn(steps, path @ rotation).step == 2000
    assert np.isnan(curves.turn_angles(path[:5])).all()


def test_speed_of_uniform_motion_on_uneven_steps():
    steps = np.array([0, 10, 30, 100.0])
    middle, speed = curves.speed(steps, np.outer(steps, [0.003, 0.004]))
    np.testing.assert_allclose(middle, [5, 20, 65])
    np.testing.assert_allclose(speed, 0.005)


def test_early_phase_does_not_grow_beyond_the_published_one():
    steps = np.arange(100, 60_001, 100)
    assert steps[curves.late_saves(steps)] == 1500
    assert steps[curves.late_saves(steps[:200])] == 1500  # 20,000 steps
    assert steps[curves.late_saves(steps[:20])] == 200  # 7.5 % of 2,000 is 150
    assert curves.late_saves(np.array([1, 2]), early=1.0) == 1


def test_published_trajectories_give_the_published_numbers():
    """Class 11 of the paper's Fig. 4 at 18 of its 60 saves (already smoothed), two decimals."""
    steps = np.array([500, 1053, 1809, 2561, 3211, 3933, 4456, 5011, 5599, 6219, 6872, 7912, 9026, 10625, 12807, 15192,
                      17782, 20000], float)  # fmt: skip
    weak = np.array([[54, 47, 35, 19, 12, 8, 6, 7, 14, 24, 30, 38, 47, 50, 55, 61, 67, 72],
                     [38, 54, 62, 63, 76, 84, 87, 91, 91, 89, 88, 91, 96, 97, 98, 98, 98, 99]]).T / 100  # fmt: skip
    strong = np.array([[82, 81, 89, 94, 88, 85, 87, 89, 89, 89, 93, 97, 98, 99, 98, 99, 97, 98],
                       [63, 56, 49, 37, 52, 69, 74, 79, 84, 90, 95, 98, 98, 98, 98, 96, 96, 97]]).T / 100  # fmt: skip
    found = curves.find_memorisation(steps, weak, BITS, 3, TRAINED)
    assert found.nearest == 1 and found.memorised and found.weak_min == 0.06
    assert abs(found.turning_step - 4729) < 300  # published for all 60 saves
    assert curves.crossing_time(steps, weak[:, 1]) == pytest.approx(3486, abs=100)
    assert np.isnan(curves.crossing_time(steps, weak[:, 0]))
    found = curves.find_memorisation(steps, strong, BITS, 3, TRAINED)
    assert found.nearest == 2 and found.weak == 1 and found.turning_step == 2561
    assert curves.crossing_time(steps, strong[:, 1]) == pytest.approx(5155, abs=100)

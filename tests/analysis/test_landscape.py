"""The landscape: solvers against closed forms, numbers of the notebooks' forms, a fit that finds what it was given."""

import numpy as np
import pytest

from cspace_jax.analysis import landscape

TIMES = np.linspace(0.0, 25.0, 200)


@pytest.mark.parametrize("form", landscape.FORMS)
@pytest.mark.parametrize("a", [0.4, 1.0, 3.0])
def test_the_solver_agrees_with_the_closed_form(form, a):
    model = landscape.FORMS[form](a)
    path = landscape.trajectory(model, TIMES)
    for i in (0, 3, 60, 120, 199):
        np.testing.assert_allclose(path[i], landscape.exact(model, TIMES[i]), atol=1e-6)


@pytest.mark.parametrize(
    "model", [landscape.eq1(50.0, rate=100.0), landscape.eq1(3.0, 5.0, 12.0, 2.0), landscape.notebook_a(2.0)]
)
def test_the_fast_solver_agrees_with_the_other(model):
    times = np.linspace(0.0, landscape.DURATION, 60)
    expected = landscape.trajectory(model, times, (0.3, 0.6))
    np.testing.assert_allclose(landscape.fast_trajectory(model, times, (0.3, 0.6)), expected, atol=1e-5)


def test_constant_targets_have_the_elementary_solution_and_falling_energy():
    model = landscape.eq1(2.0, actual=(0.0, 0.0), biased=(0.0, 0.0))
    path = landscape.trajectory(model, TIMES)
    np.testing.assert_allclose(path, 0.5 * np.exp(-np.outer(TIMES, [0.25, 1.0])), atol=1e-7)
    values = landscape.energy(model, path, 3.0)
    assert (np.diff(values) <= 1e-12).all() and values[-1] < 1e-3 * values[0]


def test_the_flow_is_minus_the_gradient_of_the_energy():
    model, z, h = landscape.notebook_a(2.3), np.array([0.2, 0.7]), 1e-6
    numeric = [
        -(landscape.energy(model, z + d, 8.0) - landscape.energy(model, z - d, 8.0)) / (2 * h) for d in h * np.eye(2)
    ]
    np.testing.assert_allclose(landscape.flow(model, z, 8.0), numeric, rtol=1e-6)


@pytest.mark.parametrize(
    ("a", "lowest", "other", "end"),
    [
        (1.0, None, None, (0.906, 0.906)),
        (1 + 2 * 4 / 14, 0.487, 0.736, (0.867, 0.945)),
        (2.0, 0.428, 0.835, (0.851, 0.962)),
        (3.0, 0.356, 0.918, (0.833, 0.981)),
        (5.0, 0.308, 0.969, (0.823, 0.993)),
    ],
)
def test_numbers_of_the_notebooks_first_form(a, lowest, other, end):
    path = landscape.trajectory(landscape.notebook_a(a), TIMES)
    np.testing.assert_allclose(path[-1], end, atol=1.2e-3)
    if lowest is not None:
        i = int(path[:, 0].argmin())
        np.testing.assert_allclose(path[i], (lowest, other), atol=6e-4)


@pytest.mark.parametrize(
    ("a", "lowest", "end"),
    [(1.0, 0.03, (1.0, 1.0)), (2.0, 0.09, (0.975, 1.0)), (3.0, 0.15, (0.92, 1.0)), (5.0, 0.23, (0.81, 1.0))],
)
def test_numbers_of_the_notebooks_second_form(a, lowest, end):
    path = landscape.trajectory(landscape.notebook_b(a), np.linspace(0.0, 25.0, 2001))
    assert path[:, 0].min() == pytest.approx(lowest, abs=6e-3)
    np.testing.assert_allclose(path[-1], end, atol=6e-3)


def test_nothing_masked_is_the_first_equation_and_everything_masked_stays_red():
    np.testing.assert_array_equal(
        landscape.trajectory(landscape.eq2(0.0, a=1.5), TIMES), landscape.trajectory(landscape.eq1(1.5), TIMES)
    )
    ends = [landscape.trajectory(landscape.eq2(alpha, a=1.0), np.array([0.0, 60.0]))[-1] for alpha in (0.0, 0.5, 1.0)]
    np.testing.assert_allclose(ends, [(1, 1), (0.5, 1), (0, 1)], atol=1e-6)


def test_mirrored_landscapes_turn_the_other_way():
    one = landscape.trajectory(landscape.notebook_a(3.0), TIMES)
    np.testing.assert_allclose(landscape.trajectory(landscape.mirrored(landscape.notebook_a(3.0)), TIMES), one[:, ::-1])
    strong_color = landscape.trajectory(landscape.eq1(1 / 3), TIMES)
    turn = strong_color[strong_color[:, 1].argmin()]
    np.testing.assert_allclose(turn, (1.0, 0.15), atol=0.01)


def test_a_fit_finds_the_parameters_of_a_noisy_trajectory():
    steps = np.linspace(100.0, 3100.0, 25)
    truth = {"a": 2.5, "t1": 1400.0, "t2": 900.0, "rate": 0.006}
    model = landscape.eq1(2.5, (1400 - 100) / 120, (900 - 100) / 120, 0.006 * 120, biased=(0.0, 1.0))
    path = landscape.trajectory(model, (steps - 100) / 120, (0.5, 0.6))
    found = landscape.fit(steps, path + 0.01 * np.random.default_rng(1).standard_normal(path.shape))
    assert found.biased == (0.0, 1.0) and found.residual < 0.02
    # The start is taken from the noisy first point, which widens the errors a little.
    for name, value in truth.items():
        low, high = found.intervals[name]
        margin = 0.5 * (high - low)
        assert low - margin < value < high + margin or name == "t2", (name, value, low, high)
    assert np.isnan(found.intervals["t2"]).all()  # biased and actual size are the same: when it switches is left open


def test_a_fit_needs_points():
    with pytest.raises(ValueError, match="at least 5 finite points"):
        landscape.fit(np.arange(4.0), np.zeros((4, 2)))


def test_eq2_is_recovered_from_its_own_trajectory():
    steps = np.linspace(0.0, 25.0, 40)
    path = landscape.trajectory(landscape.eq2(0.75, a=1.5, t1=9.0), steps)
    found = landscape.fit(steps, path, actual=(0.25, 1.0))
    assert found.residual < 1e-3 and found.biased == (0.0, 1.0)
    assert found.a == pytest.approx(1.5, rel=0.02) and found.t1 == pytest.approx(9.0, abs=0.1)
    assert landscape.fit(steps, path).residual > 3 * found.residual

"""Toy models of learning in concept space: a point slides down an energy whose targets move.

Paper sections 4.3 and 5.

The paper's formulas of Eqs. 1 and 2 did not survive in its text. `eq1` and `eq2` are RECONSTRUCTIONS: the simplest
energies that hold every quantity the text names. `notebook_a` and `notebook_b` are two forms found in the authors'
notebooks. All are sums of quadratic terms, so the dynamics dz/dt = -dE/dz is linear with moving targets.

Axis 0 is the concept that is learned second when a > 1 (colour in the paper's figures), axis 1 the other one (size).
Time has no unit; z lies in the unit square of concept space.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Real
from scipy import integrate, optimize, signal, special

START = (0.5, 0.5)  # of the authors' notebooks: a model that has learned nothing
LEAST_POINTS = 5  # of a path that Eq. 1 is fitted to
SWITCH = 10.0  # time at which targets switch in the authors' notebooks
DURATION = 25.0  # of the authors' notebooks
_GRID = 4001  # points of a fast trajectory


@dataclasses.dataclass(frozen=True)
class Term:
    """One quadratic term stiffness / 2 (target(t) - z[axis])^2 of an energy.

    The target goes from `before` to `after` as a logistic function of time with the given switching time and slope.
    """

    axis: int
    stiffness: float
    before: float
    after: float
    time: float = SWITCH
    slope: float = 1.0

    def target(self, t: Any) -> Any:
        """Return the target at times t, in their shape."""
        return self.before + (self.after - self.before) * special.expit(self.slope * (np.asarray(t) - self.time))


Landscape = tuple[Term, ...]
Point = Sequence[float] | Float[np.ndarray, "2"]


def biased_target(a: float) -> tuple[float, float]:
    """Return the target that class 11 is first drawn to.

    That is (0, 1) where axis 1 is learned first (a >= 1), else (1, 0).
    """
    return (0.0, 1.0) if a >= 1 else (1.0, 0.0)


def eq1(
    a: float,
    t1: float = SWITCH,
    t2: float = SWITCH,
    rate: float = 1.0,
    actual: Sequence[float] = (1.0, 1.0),
    biased: Sequence[float] | None = None,
) -> Landscape:
    """Return Eq. 1 as reconstructed: targets that switch from a biased to the actual one at the times t1 and t2.

    E = rate / (4 a) (target_0 - z_0)^2 + rate a / 4 (target_1 - z_1)^2. A larger a makes axis 1 faster and axis 0
    slower. `biased` None takes `biased_target(a)`; class 00 has actual = biased = (0, 0).
    """
    first = biased_target(a) if biased is None else biased
    return (
        Term(0, rate / (2 * a), first[0], actual[0], t1),
        Term(1, rate * a / 2, first[1], actual[1], t2),
    )


def eq2(alpha: float, a: float = 1.0, t1: float = SWITCH, t2: float = SWITCH, rate: float = 1.0) -> Landscape:
    """Return Eq. 2 as reconstructed: Eq. 1 whose actual colour is 1 - alpha, alpha the masked fraction in [0, 1].

    The biased target is (0, 1), the training class whose colour is masked.
    """
    return eq1(a, t1, t2, rate, actual=(1.0 - alpha, 1.0), biased=(0.0, 1.0))


def notebook_a(a: float, prefactor: float = 3.0, slope: float = 0.1) -> Landscape:
    """Return the form that the authors' notebook runs: true targets and targets that switch from 0, side by side."""
    slow, fast = prefactor / (2 * a), prefactor * a / 2
    return (
        Term(0, slow, 1.0, 1.0),
        Term(0, fast, 0.0, 1.0, SWITCH, slope),
        Term(1, fast, 1.0, 1.0),
        Term(1, slow, 0.0, 1.0, SWITCH, slope),
    )


def notebook_b(a: float) -> Landscape:
    """Return an older form of the notebook's energy.

    The target of the slow axis switches from 0 to 1; that of the fast axis is 1.
    """
    return eq1(a, biased=(0.0, 1.0))


def mirrored(landscape: Landscape) -> Landscape:
    """Return the landscape with its axes exchanged, for the other concept learned first."""
    return tuple(dataclasses.replace(term, axis=1 - term.axis) for term in landscape)


FORMS = {"eq1": eq1, "notebook_a": notebook_a, "notebook_b": notebook_b}


def energy(landscape: Landscape, z: Float[np.ndarray, "*b 2"], t: float) -> Any:
    """Return E [...] at points z [..., 2] and time t."""
    return np.sum([0.5 * term.stiffness * (term.target(t) - z[..., term.axis]) ** 2 for term in landscape], axis=0)


def flow(landscape: Landscape, z: Float[np.ndarray, "*b 2"], t: float) -> Float[np.ndarray, "*b 2"]:
    """Return dz/dt = -dE/dz [..., 2] at points z [..., 2] and time t."""
    change = np.zeros_like(np.asarray(z, float))
    for term in landscape:
        change[..., term.axis] += term.stiffness * (term.target(t) - z[..., term.axis])
    return change


def trajectory(landscape: Landscape, times: Real[np.ndarray, " t"], start: Point = START) -> Float[np.ndarray, "t 2"]:
    """Solve the dynamics from `start` at time 0 and return z [t, 2] at increasing, non-negative times [t]."""
    solution = integrate.solve_ivp(
        lambda t, z: flow(landscape, z, t), (0.0, float(times[-1])), np.asarray(start, float), "LSODA",
        np.asarray(times, float), rtol=1e-9, atol=1e-10,
    )  # fmt: skip
    return solution.y.T


def fast_trajectory(
    landscape: Landscape, times: Real[np.ndarray, " t"], start: Point = START
) -> Float[np.ndarray, "t 2"]:
    """Return z [t, 2] as `trajectory` does, within 1e-5 up to time `DURATION`, about twenty times faster.

    Targets are taken as linear between the points of a fine grid; the solution there is exact, whatever the stiffness.
    """
    grid = np.linspace(0.0, times[-1], _GRID)
    path = [_fast_axis([term for term in landscape if term.axis == i], grid, float(start[i])) for i in (0, 1)]
    return np.stack([np.interp(times, grid, one) for one in path], axis=-1)


def _fast_axis(terms: list[Term], grid: Float[np.ndarray, " point"], start: float) -> Float[np.ndarray, " point"]:
    total = sum(term.stiffness for term in terms)
    target = np.sum([term.stiffness / total * term.target(grid) for term in terms], axis=0)
    x = total * (grid[1] - grid[0])
    decay = np.exp(-x)
    mean = -np.expm1(-x) / x  # of e^(-k (h - u)) over one interval
    pulls = (mean - decay) * target[:-1] + (1.0 - mean) * target[1:]
    # z[n + 1] = decay z[n] + pulls[n]
    return np.concatenate([[start], signal.lfilter([1.0], [1.0, -decay], pulls, zi=[decay * start])[0]])


def exact(landscape: Landscape, t: float, start: Point = START) -> Float[np.ndarray, "2"]:
    """Return z(t) [2] in closed form.

    z(t) = e^(-k t) z(0) + sum over terms of k_j int_0^t e^(-k (t - u)) target_j(u) du. k is the sum of the k_j; the
    integral over the logistic function is done by quadrature.
    """
    first = np.asarray(start, float)
    return np.array([_exact_axis([term for term in landscape if term.axis == i], t, first[i]) for i in (0, 1)])


def _exact_axis(terms: list[Term], t: float, start: float) -> float:
    total = sum(term.stiffness for term in terms)
    points = sorted({term.time for term in terms if 0 < term.time < t}) or None
    pulls = [
        term.stiffness
        * integrate.quad(
            lambda u, one=term: np.exp(-total * (t - u)) * one.target(u), 0, t,
            epsabs=1e-11, epsrel=1e-11, limit=400, points=points,
        )[0]
        for term in terms
    ]  # fmt: skip
    return float(np.exp(-total * t) * start + sum(pulls))


@dataclasses.dataclass(frozen=True)
class Fit:
    """Eq. 1, or with another actual target Eq. 2, fitted to a measured trajectory.

    Attributes:
      a, t1, t2, rate: estimates; times in the unit of the measured steps.
      intervals: 95 % intervals of the four, from the curvature of the least-squares problem; NaN for a parameter that
        does not change the path. Points of a smoothed path are taken as independent, and the spread over seeds is not
        in it: the intervals are narrower than what another set of seeds would give.
      biased: the biased target that fits better, (0, 1) or (1, 0).
      residual: root mean square distance per coordinate between measured and fitted trajectory.
      path: the fitted trajectory [t, 2].
    """

    a: float
    t1: float
    t2: float
    rate: float
    intervals: dict[str, tuple[float, float]]
    biased: tuple[float, float]
    residual: float
    path: Float[np.ndarray, "t 2"]


def fit(steps: Real[np.ndarray, " t"], path: Float[np.ndarray, "t 2"], actual: Sequence[float] = (1.0, 1.0)) -> Fit:
    """Estimate (a, t1, t2, rate) of Eq. 1 from a measured trajectory of class 11 by least squares.

    Args:
      steps: increasing training steps [t], at least 5.
      path: coordinates [t, 2], the first of which is taken as the start.
      actual: target that is not estimated; (1 - alpha, 1) fits Eq. 2 at the masked fraction alpha.

    Raises:
      ValueError: there are fewer than 5 points, or a NaN.
    """
    steps, path = np.asarray(steps, float), np.asarray(path, float)
    if len(steps) < LEAST_POINTS or not np.isfinite(path).all():
        raise ValueError(f"a fit needs at least {LEAST_POINTS} finite points")
    found = [_fit_from(steps, path, biased, actual) for biased in ((0.0, 1.0), (1.0, 0.0))]
    return min(found, key=lambda one: one.residual)


def _fit_from(
    steps: Float[np.ndarray, " t"], path: Float[np.ndarray, "t 2"], biased: tuple[float, float], actual: Sequence[float]
) -> Fit:
    span = steps[-1] - steps[0]
    times = (steps - steps[0]) / span * DURATION

    def solve(p: Float[np.ndarray, "4"]) -> Float[np.ndarray, "t 2"]:
        model = eq1(np.exp(p[0]), p[1], p[2], np.exp(p[3]), actual, biased)
        return fast_trajectory(model, times, path[0])

    low, high = [-4.0, -DURATION, -DURATION, -5.0], [4.0, 2 * DURATION, 2 * DURATION, 5.0]
    guess = np.array([0.0, SWITCH, SWITCH, 0.0])
    result = optimize.least_squares(lambda p: (solve(p) - path).ravel(), guess, bounds=(low, high))
    spread = 1.96 * np.sqrt(np.maximum(np.diag(_covariance(result)), 0.0))
    spread[np.linalg.norm(result.jac, axis=0) < 1e-9] = np.nan  # no effect on the path: the data do not tell it
    estimate, ends = result.x, np.stack([result.x - spread, result.x + spread])
    names = ("a", "t1", "t2", "rate")
    scaled = {name: _unscale(i, ends[:, i], steps[0], span) for i, name in enumerate(names)}
    values = {name: float(_unscale(i, estimate[i], steps[0], span)) for i, name in enumerate(names)}
    return Fit(
        **values,
        intervals={name: (float(both[0]), float(both[1])) for name, both in scaled.items()},
        biased=biased,
        residual=float(np.sqrt(np.mean(result.fun**2))),
        path=solve(estimate),
    )


def _covariance(result: optimize.OptimizeResult) -> Float[np.ndarray, "4 4"]:
    freedom = max(1, len(result.fun) - len(result.x))
    return np.linalg.pinv(result.jac.T @ result.jac) * (result.fun @ result.fun) / freedom


def _unscale(index: int, value: Any, start: float, span: float) -> Any:
    """Return a fitted parameter in the unit of the steps.

    a and the rate are turned from logarithms into numbers, the rate per step; times are shifted and stretched.
    """
    if index in (0, 3):  # a parameter that the data leave open has an interval of any width
        return np.exp(np.clip(value, -50.0, 50.0)) * (1.0 if index == 0 else DURATION / span)
    return start + np.asarray(value) * span / DURATION

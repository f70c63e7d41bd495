"""Eq. 1 with its `a` tied to the two concept signals: one exponent and one rate for all levels of a study.

The paper says that a is "determined" by the two concepts but its formula did not survive. `a_of_signals` is a
RECONSTRUCTION, the simplest positive function that is 1 for equal signals and turns into 1 / a as the concepts are
exchanged: a power of the ratio of the signals (or, with the sign of the exponent turned, of the learning times).
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Real
from scipy import optimize, stats

from cspace_jax.analysis import landscape

_STARTS = (0.0, 0.5, 1.0)  # exponents from which the fit begins
_BOUND = 3.0  # of the exponent, both ways
_SWITCHES = (-landscape.DURATION, 2 * landscape.DURATION)  # bounds, as in a free fit
_EVALUATIONS = 60  # of all paths at most, from one start
_SMALL = 1e-6  # change of a parameter in the numeric derivative


def a_of_signals(signals: Real[np.ndarray, "*b 2"], exponent: float = 1.0) -> Float[np.ndarray, "*b"]:
    """Return a [...] = (signal of axis 1 / signal of axis 0) ** exponent, from positive signals [..., 2].

    Above 1 where axis 1 has the stronger signal (and the exponent is positive): it is then the faster axis of Eq. 1.
    """
    signals = np.asarray(signals, float)
    return (signals[..., 1] / signals[..., 0]) ** exponent


@dataclasses.dataclass(frozen=True)
class SharedFit:
    """Eq. 1 fitted to all levels of a study at once.

    Attributes:
      exponent: of `a_of_signals`.
      interval: its 95 % interval over levels, a jackknife with Student's t; NaN for fewer than three levels.
      rate: of all levels, per step.
      a, t1, t2: of each level [level]; times in steps.
      residuals: root mean square distance per coordinate of each level [level], as `landscape.Fit.residual`.
      paths: fitted trajectories [level, t, 2].
    """

    exponent: float
    interval: tuple[float, float]
    rate: float
    a: Float[np.ndarray, " level"]
    t1: Float[np.ndarray, " level"]
    t2: Float[np.ndarray, " level"]
    residuals: Float[np.ndarray, " level"]
    paths: Float[np.ndarray, "level t 2"]


def varies(signals: Real[np.ndarray, "level 2"]) -> bool:
    """Return whether signals [level, 2] tell an exponent.

    They do if they are positive, and of two levels or more whose ratios differ.
    """
    good = len(signals) > 1 and np.isfinite(signals).all() and (np.asarray(signals) > 0).all()
    return bool(good and np.ptp(np.log(a_of_signals(signals))) > 1e-6)


def fit_shared(
    steps: Real[np.ndarray, " t"], paths: Float[np.ndarray, "level t 2"], signals: Real[np.ndarray, "level 2"],
    free: Sequence[landscape.Fit], actual: Sequence[tuple[float, float]] | None = None,
) -> SharedFit:  # fmt: skip
    """Estimate one exponent and one rate for all levels, and the switching times of each, by least squares.

    Begins from the switching times and the biased targets of the free fits, with three exponents; the best is kept.

    Args:
      steps: increasing training steps [t], at least 5.
      paths: measured trajectories [level, t, 2] of class 11.
      signals: of the two axes [level, 2].
      free: `landscape.fit` of each level.
      actual: targets that are not estimated, (1, 1) by default; (1 - alpha, 1) is Eq. 2's.

    Raises:
      ValueError: the signals tell no exponent (`varies`).
    """
    if not varies(signals):
        raise ValueError("an exponent needs two levels whose positive signals have different ratios")
    problem = _Problem(
        np.asarray(steps, float), np.asarray(paths, float), np.log(a_of_signals(signals)),
        tuple(one.biased for one in free), tuple(actual or [(1.0, 1.0)] * len(free)),
    )  # fmt: skip
    switches = np.clip([problem.scale([one.t1, one.t2]) for one in free], *_SWITCHES)
    rate = float(np.median(np.log([one.rate * problem.unit for one in free])))
    every = list(range(len(free)))
    found = min(
        (problem.solve(every, np.concatenate([[start, rate], switches.ravel()])) for start in _STARTS),
        key=lambda one: one.cost,
    )
    return _described(problem, found.x)


def _described(problem: "_Problem", found: Float[np.ndarray, " p"]) -> SharedFit:
    exponent, rate, own = found[0], found[1], found[2:].reshape(-1, 2)
    paths = np.stack([problem.path(level, found[:2], times) for level, times in enumerate(own)])
    switches = problem.steps[0] + own * problem.unit
    return SharedFit(
        exponent=float(exponent), interval=_jackknife(problem, found), rate=float(np.exp(rate) / problem.unit),
        a=np.exp(exponent * problem.log_ratio), t1=switches[:, 0], t2=switches[:, 1],
        residuals=np.sqrt(np.mean((paths - problem.paths) ** 2, axis=(1, 2))), paths=paths,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class _Problem:
    """The levels of a study, of which parameters [2 + 2 level] are fitted.

    They are exponent, log rate, then two switching times a level, in the toys' time.
    """

    steps: Float[np.ndarray, " t"]
    paths: Float[np.ndarray, "level t 2"]
    log_ratio: Float[np.ndarray, " level"]
    biased: tuple[tuple[float, float], ...]
    actual: tuple[tuple[float, float], ...]

    @property
    def unit(self) -> float:
        """Steps in one unit of the toys' time."""
        return float((self.steps[-1] - self.steps[0]) / landscape.DURATION)

    def scale(self, times: Any) -> Float[np.ndarray, "*b"]:
        """Return steps in the toys' time."""
        return (np.asarray(times, float) - self.steps[0]) / self.unit

    def path(self, level: int, shared: Float[np.ndarray, "2"], own: Float[np.ndarray, "2"]) -> Float[np.ndarray, "t 2"]:
        """Return a level's trajectory by (exponent, log rate) and its own two switching times."""
        a, rate = float(np.exp(shared[0] * self.log_ratio[level])), float(np.exp(shared[1]))
        model = landscape.eq1(a, float(own[0]), float(own[1]), rate, self.actual[level], self.biased[level])
        return landscape.fast_trajectory(model, self.scale(self.steps), self.paths[level, 0])

    def solve(self, which: list[int], guess: Float[np.ndarray, " p"]) -> optimize.OptimizeResult:
        """Fit the levels `which` from a guess [2 + 2 level]."""

        def residual(x: Float[np.ndarray, " p"], i: int) -> Float[np.ndarray, " n"]:
            return (self.path(which[i], x[:2], x[2 + 2 * i : 4 + 2 * i]) - self.paths[which[i]]).ravel()

        def residuals(x: Float[np.ndarray, " p"]) -> Float[np.ndarray, " n"]:
            return np.concatenate([residual(x, i) for i in range(len(which))])

        def jacobian(x: Float[np.ndarray, " p"]) -> Float[np.ndarray, "n p"]:
            size = 2 * len(self.steps)
            slopes = np.zeros((size * len(which), len(x)))
            for i in range(len(which)):  # a level depends on four parameters alone
                base = residual(x, i)
                for p in (0, 1, 2 + 2 * i, 3 + 2 * i):
                    moved = x.copy()
                    moved[p] += _SMALL
                    slopes[size * i : size * (i + 1), p] = (residual(moved, i) - base) / _SMALL
            return slopes

        derivative: Any = jacobian  # SciPy's annotations know names of methods only
        low = np.array([-_BOUND, -5.0] + [_SWITCHES[0]] * 2 * len(which))
        high = np.array([_BOUND, 5.0] + [_SWITCHES[1]] * 2 * len(which))
        return optimize.least_squares(
            residuals, np.clip(guess, low, high), derivative, bounds=(low, high), max_nfev=_EVALUATIONS
        )


def _jackknife(problem: _Problem, found: Float[np.ndarray, " p"]) -> tuple[float, float]:
    """Return the 95 % interval of the exponent over levels: each left out once, fitted again from the estimate."""
    count = len(problem.paths)
    if count < 3:
        return float("nan"), float("nan")
    own, without = found[2:].reshape(-1, 2), []
    for left_out in range(count):
        which = [level for level in range(count) if level != left_out]
        if np.ptp(problem.log_ratio[which]) < 1e-6:
            return float("nan"), float("nan")
        without.append(problem.solve(which, np.concatenate([found[:2], own[which].ravel()])).x[0])
    spread = np.sqrt((count - 1) * np.var(without)) * stats.t.ppf(0.975, count - 1)
    return float(found[0] - spread), float(found[0] + spread)

"""Numbers from single curves and trajectories: smoothing, learning times, turning points. NumPy and SciPy only.

Axis letters: t checkpoint, c concept, k class. Curves are sampled at the save steps, which are not evenly spaced; what
is counted "in saves" below goes by index, what is counted in steps goes by the training step. A time that was never
reached is NaN and stays so: nothing here replaces it by the last step.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int, Real

from cspace_jax.config.definitions import (
    EARLY,
    EARLY_STEPS,
    NOTEBOOKS,
    NOTEBOOKS_SAVES,
    NOTEBOOKS_SIGMA,
    THRESHOLD,
)

SIGMA_TRAJECTORY = 2.0  # in saves; the published smoothing of the 2x2 trajectories
TURN_DEGREES, TURN_WINDOW, TURN_LASTS = 60.0, 3, 2  # of our own detector of turns; the last two in saves
MEMORISED_WITHIN = 0.5  # of a training class's corner


def smooth(
    values: Real[np.ndarray, "*shape"], sigma: float = SIGMA_TRAJECTORY, axis: int = 0, truncate: float = 6.0
) -> Float[np.ndarray, "*shape"]:
    """Smooth along the index of saves with a Gaussian of `sigma` saves, reflecting at both ends.

    `sigma` 0 changes nothing. The Gaussian is cut at `truncate` sigmas.

    The published trajectories use sigma 2 and truncate 6 for two concepts and sigma 1 for three (reference
    implementation). A NaN spreads to its neighbours, so leave diverged runs out first.
    """
    values = np.asarray(values, dtype=float)
    if sigma == 0:
        return values
    from scipy import ndimage  # takes a fifth of a second to load

    return ndimage.gaussian_filter1d(values, sigma, axis=axis, mode="reflect", truncate=truncate)


def crossing_time(
    steps: Real[np.ndarray, " t"],
    curve: Real[np.ndarray, " t"],
    threshold: float = THRESHOLD,
    persistence: int | None = None,
    sigma: float = 0.0,
) -> float:
    """Return the training step at which `curve` [t] reaches `threshold` and stays there; NaN if it never does.

    The crossing is linearly interpolated between the save before and the save after it. `persistence` is the number of
    saves in a row that have to lie at or above the threshold, the first included; None asks for all saves to the end.
    A curve that starts above gives its first step. Source: paper section 4.1 (80 %); the persistent reading is that of
    the published table of crossing times. `sigma` smooths first, in saves (0: the curve as measured).

    Raises:
      ValueError: `persistence` is below 1.
    """
    curve = smooth(curve, sigma)
    above = curve >= threshold
    first = _first_of_row(above, persistence)
    if first is None:
        return float("nan")
    if first == 0:
        return float(steps[0])
    low, high = curve[first - 1], curve[first]
    return float(steps[first - 1] + (threshold - low) / (high - low) * (steps[first] - steps[first - 1]))


def _first_of_row(above: Bool[np.ndarray, " t"], persistence: int | None) -> int | None:
    """Return the first index from which `persistence` entries (None: all the rest) are true, or None."""
    below = np.flatnonzero(~above)
    if persistence is None:
        first = int(below[-1]) + 1 if below.size else 0
        return first if first < above.size else None
    if persistence < 1:
        raise ValueError(f"persistence must be None or at least 1, got {persistence}")
    if above.size < persistence:
        return None
    rows = np.lib.stride_tricks.sliding_window_view(above, persistence).all(axis=1)
    return int(np.argmax(rows)) if rows.any() else None


def notebook_time(
    steps: Real[np.ndarray, " t"],
    curve: Real[np.ndarray, " t"],
    threshold: float = NOTEBOOKS,
    row: int = NOTEBOOKS_SAVES,
    sigma: float = NOTEBOOKS_SIGMA,
) -> float:
    """Return the learning time of the authors' notebooks, in steps; NaN if never.

    The curve [t] is smoothed and eroded, but the time is not interpolated. The value is the save step of the first
    index that is the centre of `row` consecutive smoothed values above the threshold; the two ends cannot be centres.
    The notebooks put the last step for "never"; here it stays NaN. Their truncation of the Gaussian is not recorded:
    SciPy's default (4) is taken.
    """
    above = smooth(curve, sigma, truncate=4.0) > threshold
    from scipy import ndimage

    centres = ndimage.binary_erosion(above, structure=np.ones(row, bool))
    return float(steps[int(np.argmax(centres))]) if centres.any() else float("nan")


def speed(
    steps: Real[np.ndarray, " t"], trajectory: Real[np.ndarray, "t c"]
) -> tuple[Float[np.ndarray, "t-1"], Float[np.ndarray, "t-1"]]:
    """Return the mid steps [t-1] and the speeds [t-1] of a trajectory [t, c] between saves.

    The speed in concept space is |dC/dstep|, per training step.
    """
    steps = np.asarray(steps, dtype=float)
    length = np.linalg.norm(np.diff(trajectory, axis=0), axis=-1)
    return (steps[1:] + steps[:-1]) / 2, length / np.diff(steps)


def turn_angles(
    trajectory: Real[np.ndarray, "t c"], window: int = TURN_WINDOW, min_move: float = 0.05
) -> Float[np.ndarray, " t"]:
    """Return the turn [t] at each save of a trajectory [t, c], in degrees; NaN where it is undefined.

    0 is straight on, 180 is back. The angle lies between the displacement over the `window` saves before and that over
    the `window` saves after. It is undefined near the ends and where either displacement is shorter than `min_move`: a
    resting point has no course.
    """
    angles = np.full(len(trajectory), np.nan)
    if len(trajectory) <= 2 * window:
        return angles
    before = trajectory[window:-window] - trajectory[: -2 * window]
    after = trajectory[2 * window :] - trajectory[window:-window]
    lengths = np.linalg.norm(before, axis=-1), np.linalg.norm(after, axis=-1)
    moving = np.minimum(*lengths) >= min_move
    cosine = np.sum(before * after, axis=-1)[moving] / (lengths[0] * lengths[1])[moving]
    angles[window:-window][moving] = np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))
    return angles


def late_saves(steps: Real[np.ndarray, " t"], early: float = EARLY) -> int:
    """Return the position of the first save after the early phase.

    In that phase the model has not settled on any image yet. It lasts for the share `early` of the training. A training
    of more than 20,000 steps counts as one of 20,000, which gives 1,500 steps by default, as published. At least one
    save is left.
    """
    phase = early * min(float(steps[-1]), EARLY_STEPS / EARLY)
    return min(int(np.searchsorted(steps, phase)), len(steps) - 1)


@dataclasses.dataclass(frozen=True)
class Turn:
    """A turn of a trajectory: the save step of its sharpest point and the angle there.

    Both are NaN if there is none.
    """

    step: float
    degrees: float


def find_turn(
    steps: Real[np.ndarray, " t"], trajectory: Real[np.ndarray, "t c"], threshold: float = TURN_DEGREES,
    persistence: int = TURN_LASTS, early: float = EARLY, window: int = TURN_WINDOW, min_move: float = 0.05,
) -> Turn:  # fmt: skip
    """Find the first turn of at least `threshold` degrees that lasts for `persistence` saves in a row.

    Saves of the early phase are left out (`late_saves`). Our own detector, for any number of concepts; the published
    definition of the turning point is that of `find_memorisation`.

    Raises:
      ValueError: `persistence` is below 1.
    """
    angles = turn_angles(trajectory, window, min_move)
    sharp = np.nan_to_num(angles, nan=0.0) >= threshold
    sharp[: late_saves(steps, early)] = False
    first = _first_of_row(sharp, persistence)
    if first is None:
        return Turn(float("nan"), float("nan"))
    ends = np.flatnonzero(~sharp[first:])
    last = first + int(ends[0]) if ends.size else len(sharp)
    best = first + int(np.argmax(angles[first:last]))
    return Turn(float(steps[best]), float(angles[best]))


@dataclasses.dataclass(frozen=True)
class Memorisation:
    """Concept memorisation of a held-out class along one trajectory; see `find_memorisation`."""

    nearest: int  # class index of the training class that the trajectory comes closest to
    distance: float  # distance to that class's corner at the closest approach
    closest_step: float  # save step of the closest approach
    weak: int  # index of the concept that is held back
    weak_min: float  # smallest probability of the correct bit of that concept after the early phase
    weak_step: float  # save step of that minimum
    at_min: tuple[float, ...]  # probability of the correct bit of every concept at that step
    memorised: bool  # at its closest it is within `radius` of the training class, and farther from its own corner
    turning_step: float  # = weak_step if the class was memorised and leaves again, else NaN

    @property
    def depth(self) -> float:
        """Return how deep the class was memorised: 0 never held back, 1 entirely taken for the training class."""
        return 1.0 - self.weak_min


def find_memorisation(
    steps: Real[np.ndarray, " t"], trajectory: Real[np.ndarray, "t c"], bits: Int[np.ndarray, "k c"], klass: int,
    trained: Bool[np.ndarray, " k"], early: float = EARLY, departure: float = 0.1,
    radius: float = MEMORISED_WITHIN,
) -> Memorisation:  # fmt: skip
    """Describe how a class is first mistaken for a training class.

    `trajectory` [t, c] holds its P(bit = 1), smoothed or not, at the `steps` [t] of the saves. bits [k, c] are the
    corners of the classes, trained [k] marks the training classes. Saves of the early phase are left out (`late_saves`;
    1,500 of 20,000 steps as published). The memorised class is the training class whose corner the trajectory comes
    closest to; the weak concept is, among the concepts in which that class differs from `klass`, the one with the
    lowest probability of the correct bit at that closest approach. The class counts as memorised if the closest
    approach is nearer than `radius` and nearer than the class's own corner. The turning point is the save at which the
    weak concept's probability is smallest, counted only if the class was memorised, if the minimum is an interior one
    and if the probability later rises by at least `departure` above it. Source: the published table of minima of
    P(blue), here generalised to any classes.
    """
    start = late_saves(steps, early)
    bits = np.asarray(bits, dtype=float)
    distances = np.linalg.norm(trajectory[:, None, :] - bits[None], axis=-1)  # [t, k]
    others = [k for k in np.flatnonzero(trained) if k != klass]
    row, column = np.unravel_index(np.argmin(distances[start:, others]), (len(steps) - start, len(others)))
    closest, nearest = start + int(row), int(others[int(column)])
    correct = np.where(bits[klass] == 1, trajectory, 1 - trajectory)  # [t, c]
    differing = np.flatnonzero(bits[klass] != bits[nearest])
    weak = int(differing[np.argmin(correct[closest, differing])])
    low = start + int(np.argmin(correct[start:, weak]))
    memorised = bool(distances[closest, nearest] < min(radius, distances[closest, klass]))
    rises = correct[low:, weak].max() - correct[low, weak] >= departure
    falls = low > 0 and correct[low - 1, weak] >= correct[low, weak]
    return Memorisation(
        nearest=nearest, distance=float(distances[closest, nearest]), closest_step=float(steps[closest]), weak=weak,
        weak_min=float(correct[low, weak]), weak_step=float(steps[low]), at_min=tuple(map(float, correct[low])),
        memorised=memorised,
        turning_step=float(steps[low]) if memorised and rises and falls else float("nan"),
    )  # fmt: skip

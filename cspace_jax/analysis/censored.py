"""Times that may never come: right-censored at the last step of training (Kaplan and Meier, log-rank).

A time is a training step; NaN means that it had not come by `last`.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Real

from cspace_jax.analysis import intervals


def survival(times: Real[np.ndarray, " r"], last: float) -> tuple[Float[np.ndarray, " e"], Float[np.ndarray, " e"]]:
    """Return Kaplan and Meier's curve: event times [e] and the share not yet there after each [e].

    Times are in increasing order; without an event both are empty.
    """
    from scipy import stats  # takes half a second to load

    data = _data(times, last)
    if data.num_censored() == len(times):
        return np.zeros(0), np.zeros(0)
    curve = stats.ecdf(data).sf
    events = np.isin(curve.quantiles, np.asarray(times)[np.isfinite(times)])
    return curve.quantiles[events], curve.probabilities[events]


def median(times: Real[np.ndarray, " r"], last: float | None = None) -> float:
    """Return the median step of Kaplan and Meier's curve.

    It is NaN where fewer than half of the seeds have learned by the last step. Where exactly half have, it lies midway
    between that event and the next, as usual; NaN if there is no next one.

    Args:
      times: one a seed.
      last: step at which all are censored; None = later than all of them.
    """
    times = np.asarray(times, float)
    if not np.isfinite(times).any():
        return float("nan")
    events, shares = survival(times, float(np.nanmax(times)) + 1 if last is None else last)
    reached = np.flatnonzero(shares <= 0.5 + 1e-9)
    if not reached.size:
        return float("nan")
    first = int(reached[0])
    if shares[first] < 0.5 - 1e-9:
        return float(events[first])
    return float((events[first] + events[first + 1]) / 2) if first + 1 < len(events) else float("nan")


def log_rank(times: Real[np.ndarray, " r"], other: Real[np.ndarray, " q"], last: float) -> float:
    """Return the two-sided p-value of the log-rank test of two samples of times [r] and [q].

    The p-value is that of a large sample. It is NaN with fewer than three seeds a side, and where no time ever comes.
    """
    from scipy import stats

    sides = [np.asarray(one, float) for one in (times, other)]
    if min(map(len, sides)) < intervals.LEAST_MEAN or not any(np.isfinite(one).any() for one in sides):
        return float("nan")
    return float(stats.logrank(*(_data(one, last) for one in sides)).pvalue)


def _data(times: Real[np.ndarray, " r"], last: float) -> Any:
    from scipy import stats

    times = np.asarray(times, float)
    learned = np.isfinite(times)
    return stats.CensoredData(uncensored=times[learned], right=np.full(int((~learned).sum()), float(last)))

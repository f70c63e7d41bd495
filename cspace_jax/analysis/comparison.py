"""Protocols compared with naive prompting and with their controls, seed by seed: the same starting noise on both sides.

What is compared is P(class asked for), averaged over the logarithm of the steps (the area under the curve over its
width), and the step at which it emerges. The query is chosen on one half of the samples and scored on the other, on
both sides: naive prompting has as many repeats of the plain query to choose among.
"""

from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float, Real

from cspace_jax.analysis import censored, testing
from cspace_jax.analysis.capability import emergence, score_curve
from cspace_jax.analysis.learning import definition_of, describe_difference
from cspace_jax.analysis.levels import Level, levels, unseen
from cspace_jax.analysis.summary_blocks import summary_block
from cspace_jax.config.protocol_names import NAIVE, RANDOM, REPEATED, SHUFFLED, is_control


def area(steps: Real[np.ndarray, " t"], scores: Float[np.ndarray, "r t"]) -> Float[np.ndarray, " r"]:
    """Return the mean of each curve [r, t] over the logarithm of the steps (trapezoidal rule), in the curve's unit."""
    logs = np.log(np.asarray(steps, float))
    return np.trapezoid(scores, logs, axis=-1) / (logs[-1] - logs[0]) if len(logs) > 1 else scores[:, 0]


@summary_block("comparisons", when=lambda ds: "capability" in ds and ds.sizes["protocol"] > 1)
def comparisons(ds: xr.Dataset) -> list[dict[str, Any]]:
    """Return every protocol against naive prompting and against its controls, by level and held-out class.

    difference: of `area`, protocol minus the other, mean and median over seeds with the interval of the median; p:
    exact two-sided sign-flip test of the mean; p_holm: corrected for all comparisons of the level and class (Holm);
    p_least: the smallest that so many comparisons of so few seeds can give. sooner, later: seeds whose emergence comes
    earlier or later; p_times: sign test of these. tries, naive_tries: queries that the protocol, and naive prompting
    beside it, choose among; None where the queries are not known. NaN where seeds are too few or all alike.
    """
    return [
        {
            "label": level.label, "setting": level.setting,
            "classes": {
                str(ds["klass"].values[klass]): compare(ds, level, klass)
                for klass in unseen(ds)
            },
        }
        for level in levels(ds)
        if level.runs
    ]  # fmt: skip


def compare(ds: xr.Dataset, level: Level, klass: int) -> list[dict[str, Any]]:
    """Return the comparisons of one level and class, p-values corrected for their number."""
    names = list(map(str, ds["protocol"].values))
    rows = []
    for name in names:
        if name in (NAIVE, REPEATED) or is_control(name):
            continue
        controls = [name + kind for kind in (RANDOM, SHUFFLED) if name + kind in names]
        rows += [_pair(ds, level, klass, name, other) for other in [NAIVE, *controls]]
    corrected = testing.holm([row["p"] for row in rows])
    told = sum(np.isfinite(p) for p in corrected)
    return [
        row | {"p_holm": p, "p_least": min(1.0, told * row["p_least"]) if np.isfinite(p) else float("nan")}
        for row, p in zip(rows, corrected, strict=True)
    ]


def _pair(ds: xr.Dataset, level: Level, klass: int, name: str, other: str) -> dict[str, Any]:
    chosen, steps = ds.isel(run=list(level.runs), klass=klass), ds["step"].values
    one = score_curve(chosen, "capability_split", name)
    two = score_curve(chosen, "naive_split", name) if other == NAIVE else score_curve(chosen, "capability_split", other)
    whole = np.isfinite(area(steps, one) - area(steps, two))  # a seed with a broken query takes no part
    one, two = one[whole], two[whole]
    difference = area(steps, one) - area(steps, two)
    tested = testing.sign_flip(difference)
    times = [emergence(steps, scores, definition_of(ds)) for scores in (one, two)]
    signs = testing.sign_of_times(*times)
    return {
        "protocol": name, "against": other, "seeds": len(difference), "difference": describe_difference(difference),
        "p": tested.two_sided, "p_least": 2 * tested.least_greater, **_tries(ds, name),
        "median": censored.median(times[0]), "median_against": censored.median(times[1]),
        "sooner": int((signs > 0).sum()), "later": int((signs < 0).sum()), "p_times": testing.sign_test(*times),
    }  # fmt: skip


def _tries(ds: xr.Dataset, name: str) -> dict[str, int | None]:
    if "query_protocol" not in ds.coords:
        return {"tries": None, "naive_tries": None}
    asked = list(map(str, ds["query_protocol"].values))
    return {"tries": asked.count(name), "naive_tries": min(asked.count(name), max(1, asked.count(REPEATED)))}

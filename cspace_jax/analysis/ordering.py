"""Whether learning times follow the order of the concept signal."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Real

from cspace_jax.analysis.levels import Level, told_apart
from cspace_jax.config.concepts import SEPARATION, SEPARATIONS


def order_check(signal: Float[np.ndarray, " level"], medians: Float[np.ndarray, " level"]) -> dict[str, Any]:
    """Ask whether times [levels] fall as the signal [levels] rises; NaN ("never") counts as the latest.

    ordered: no level is slower than a weaker one, and the strongest is learned and faster than the weakest; levels of
    equal signal have no order. None where there is nothing to order: fewer than two different signals, one that is not
    known, or all times alike ("never" included). spearman: rank correlation, -1 for perfectly ordered; NaN in the same
    cases.
    """
    times, strength = np.where(np.isnan(medians), np.inf, medians), told_apart(signal)
    if len(set(times)) < 2 or np.isnan(signal).any() or len(set(strength.tolist())) < 2:
        return {"ordered": None, "spearman": float("nan"), "levels": len(times)}
    stronger = strength[:, None] > strength  # the first level than the second
    ends = times[strength == strength.max()].max(), times[strength == strength.min()].min()
    ordered = bool((times[:, None] <= times)[stronger].all() and ends[0] < ends[1])
    return {"ordered": ordered, "spearman": rank_correlation(strength, times), "levels": len(times)}


def order_within(
    signal: Float[np.ndarray, " level"], medians: Float[np.ndarray, " level"], groups: Sequence[Sequence[int]]
) -> dict[str, Any]:
    """Apply `order_check` to levels [levels] within groups of them, whose members differ in one setting alone.

    ordered: in every group in which there is something to order (groups of them, ordered_groups are ordered); None if
    in none. spearman: mean over these groups.
    """
    checks = [order_check(signal[list(group)], medians[list(group)]) for group in groups]
    judged = [check for check in checks if check["ordered"] is not None]
    ordered = [check["ordered"] for check in judged]
    return {
        "ordered": all(ordered) if judged else None,
        "spearman": float(np.mean([check["spearman"] for check in judged])) if judged else float("nan"),
        "levels": len(signal), "groups": len(judged), "ordered_groups": sum(ordered),
    }  # fmt: skip


def level_groups(found: Sequence[Level], concept: str) -> list[list[int]]:
    """Return groups of positions of levels that differ in the separation of a concept alone.

    Where that does not vary, or nobody knows which setting it is (a shape, a generator's own concept), they differ in
    settings that carry a signal (`signal_groups`).
    """
    axis = SEPARATION.get(concept)
    return _groups(found, {axis}) if axis in found[0].varying else signal_groups(found)


def signal_groups(found: Sequence[Level]) -> list[list[int]]:
    """Return groups of positions of levels that differ in separations alone.

    Members of a group agree in the settings that carry no signal (mask, optimiser).
    """
    return _groups(found, SEPARATIONS)


def _groups(found: Sequence[Level], free: Collection[str]) -> list[list[int]]:
    groups: dict[tuple[float, ...], list[int]] = {}
    for number, level in enumerate(found):
        groups.setdefault(tuple(v for name, v in level.varying.items() if name not in free), []).append(number)
    return list(groups.values())


def rank_correlation(x: Real[np.ndarray, " n"], y: Real[np.ndarray, " n"]) -> float:
    """Return Spearman's rank correlation of two series [n], in -1..1; NaN if one is constant or n is below 2."""
    from scipy import stats  # takes half a second to load

    ranks = stats.rankdata(x), stats.rankdata(y)  # infinite values have ranks too
    constant = any(len(set(rank)) < 2 for rank in ranks)
    return float("nan") if constant else float(np.corrcoef(*ranks)[0, 1])

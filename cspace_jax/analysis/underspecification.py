"""Numbers of the underspecification study: what changes with the masked fraction (paper section 5). NumPy only."""

from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from cspace_jax.analysis import capability
from cspace_jax.analysis.learning import (
    accuracy_curves,
    definition_of,
    describe_mean,
    describe_times,
    product_check,
    samples_of,
    times_by,
    trajectory,
    whole,
)
from cspace_jax.analysis.levels import Level, held_out, levels, ok_runs, setting_label
from cspace_jax.analysis.ordering import order_check, rank_correlation
from cspace_jax.analysis.summary_blocks import summary_block
from cspace_jax.config import DataConfig
from cspace_jax.config.schema import DGP
from cspace_jax.storage import results

HALF = 0.5  # the masked fraction of the paper's Fig. 10


def is_swept(ds: xr.Dataset) -> bool:
    """Return whether a dataset holds live runs at several masked fractions."""
    return len(np.unique(ds["mask"].values[ok_runs(ds)])) > 1


def mask_groups(ds: xr.Dataset) -> list[list[Level]]:
    """Return the levels with live runs in groups that differ in the masked fraction alone, each by that fraction.

    One group where nothing else varies. Groups with the most fractions come first, then in the order of their settings.
    """
    groups: dict[tuple, list[Level]] = {}
    for level in levels(ds):
        if level.runs:
            rest = tuple(value for name, value in level.setting.items() if name != "mask")
            groups.setdefault(rest, []).append(level)
    ordered = [sorted(group, key=lambda level: level.setting["mask"]) for group in groups.values()]
    return sorted(ordered, key=len, reverse=True)  # stable


def group_setting(found: list[Level]) -> dict[str, float]:
    """Return the settings that vary over the study and are the same in all levels of a group.

    Return {} if masks alone vary.
    """
    return {name: value for name, value in found[0].varying.items() if name != "mask"}


def fractions(found: list[Level]) -> Float[np.ndarray, " level"]:
    """Return the masked fraction of each level [level], in 0..1."""
    return np.array([level.setting["mask"] for level in found])


def common_seeds(ds: xr.Dataset, found: list[Level]) -> list[int]:
    """Return the seeds that diverged at no masked fraction of a group, in the order of the first fraction's runs."""
    seeds = [ds["seed"].values[list(level.runs)].tolist() for level in found]
    return [seed for seed in seeds[0] if all(seed in others for others in seeds)]


def nearest_half(found: list[Level]) -> Level:
    """Return the level of a group whose masked fraction is closest to 50 %."""
    return found[int(np.argmin(np.abs(fractions(found) - HALF)))]


def masked(ds: xr.Dataset) -> tuple[int, int]:
    """Return the index of the concept that is masked and of the class it is masked in."""
    stored = results.config_of(ds).get("data", {})
    fields = {name: stored.get(name, "") for name in ("mask_concept", "mask_class")}
    concept, klass = DataConfig(active=tuple(map(str, ds["concept"].values)), **fields).masked
    return ds["concept"].values.tolist().index(concept), ds["klass"].values.tolist().index(klass)


def axes(ds: xr.Dataset) -> tuple[int, int]:
    """Return the indices of the two concepts that are drawn: the masked one across, the first other one upwards."""
    concept, _ = masked(ds)
    return concept, next(i for i in range(ds.sizes["concept"]) if i != concept)


def colors(ds: xr.Dataset, level: Level, klass: int, protocol: str) -> Float[np.ndarray, "r t 3"]:
    """Return the mean RGB of the drawn objects [r, t, 3] in [0, 1].

    It is a mean over the samples of a run.
    """
    chosen = ds["mean_rgb"].sel(protocol=protocol).isel(run=list(level.runs), klass=klass)
    return chosen.transpose("run", "step", "channel").values


def is_rendered(ds: xr.Dataset) -> bool:
    """Return whether the images are those of the renderer, whose objects have a colour; pictures have none."""
    return results.config_of(ds).get("data", {}).get("source", DGP) == DGP


def redness(rgb: Float[np.ndarray, "*b 3"]) -> Float[np.ndarray, "*b"]:
    """Return red minus blue [...] of colours [..., 3]: -1 pure blue, 0 purple or grey, 1 pure red."""
    return rgb[..., 0] - rgb[..., 2]


@summary_block("underspecification", when=is_swept)
def summarise(ds: xr.Dataset, protocol: str | None = None) -> dict[str, Any]:
    """Return how learning of the last held-out class changes with the masked fraction, as plain dicts and lists.

    `groups`: a block for each group of levels that differ in the masked fraction alone, with the `label` and `setting`
    of what else varies; the first group's numbers also stand beside it, as in summaries of older versions.
    By level: steps to 80 % of each concept, P(bit = 1), of rendered images mean RGB and redness at the last save, with
    95 % intervals over seeds. `slower`: are steps ordered by the fraction ("never" last, the largest fraction later
    than none)? `redness`: do the means over seeds rise with it; do they within intervals (none lies wholly below that
    of a smaller fraction, the last wholly above the first); and Spearman's rank correlation over runs. `elicited`: what
    protocols reach at the fraction closest to 50 %, where they were asked.
    """
    protocol = protocol or str(ds["protocol"].values[0])
    concept, masked_class = masked(ds)
    groups = [_group_block(ds, found, protocol) for found in mask_groups(ds)]
    return {
        "masked_concept": str(ds["concept"].values[concept]),
        "masked_class": str(ds["klass"].values[masked_class]),
        "held_out_class": str(ds["klass"].values[held_out(ds)]),
        **{name: value for name, value in groups[0].items() if name not in ("label", "setting")},
        "groups": groups,
    }


def _group_block(ds: xr.Dataset, found: list[Level], protocol: str) -> dict[str, Any]:
    klass, (concept, _), names = held_out(ds), masked(ds), ds["concept"].values.tolist()
    blocks = [_level_block(ds, level, klass, protocol) for level in found]
    kept = 1.0 - fractions(found)
    medians = {name: np.array([block["steps_to_80"][name]["median"] for block in blocks]) for name in names}
    elicited = {"elicited": _elicited(ds, nearest_half(found), klass, concept)} if capability.CONCEPT in ds else {}
    return {
        "label": setting_label(group_setting(found)),
        "setting": group_setting(found),
        "levels": blocks,
        "slower": {name: order_check(kept, medians[name]) for name in names},
        **({"redness": _trend(found, [block["redness"] for block in blocks])} if is_rendered(ds) else {}),
        **elicited,
    }


def _elicited(ds: xr.Dataset, level: Level, klass: int, concept: int) -> dict[str, Any]:
    """Return what each protocol elicits at one level, of the masked concept alone and of the whole class.

    Both by the split estimate: steps until it stays at 80 %, and the value at the last save.
    """
    chosen = ds.isel(run=list(level.runs), klass=klass)
    protocols = {}
    for name in map(str, ds["protocol"].values):
        asked = chosen.sel(protocol=name)
        protocols[name] = {
            "masked_concept": _reached(ds, asked[capability.CONCEPT].isel(concept=concept)),
            "class": _reached(ds, asked["capability_split"]),
        }
    return {"mask": level.setting["mask"], "protocols": protocols}


def _reached(ds: xr.Dataset, curves: xr.DataArray) -> dict[str, Any]:
    values, steps = curves.transpose("run", "step").values, ds["step"].values
    values, samples = values[whole(values)], samples_of(ds, battery=True)
    times = times_by(definition_of(ds), steps, values)
    return {"steps_to_80": describe_times(times, steps), "final": describe_mean(values[:, -1], samples)}


def _level_block(ds: xr.Dataset, level: Level, klass: int, protocol: str) -> dict[str, Any]:
    accuracy = accuracy_curves(ds, level.runs, [klass], protocol)
    last = trajectory(ds, level.runs, klass, protocol)[:, -1]
    names = ds["concept"].values.tolist()
    steps, definition, samples = ds["step"].values, definition_of(ds), samples_of(ds)
    times = [times_by(definition, steps, accuracy[..., i]) for i in range(len(names))]
    return {
        "mask": level.setting["mask"],
        "seeds": ds["seed"].values[list(level.runs)].tolist(),
        "steps_to_80": {name: describe_times(one, steps) for name, one in zip(names, times, strict=True)},
        "prob": {name: describe_mean(last[:, i], samples) for i, name in enumerate(names)},
        **(_colors_block(ds, level, klass, protocol) if is_rendered(ds) else {}),
        "product_check": product_check(ds, level, klass, protocol),
    }


def _colors_block(ds: xr.Dataset, level: Level, klass: int, protocol: str) -> dict[str, Any]:
    rgb = colors(ds, level, klass, protocol)[:, -1]
    return {
        "rgb": {name: describe_mean(rgb[:, i]) for i, name in enumerate(ds["channel"].values.tolist())},
        "redness": describe_mean(redness(rgb)),
    }


def _trend(found: list[Level], spreads: list[dict[str, Any]]) -> dict[str, Any]:
    means = np.array([one["mean"] for one in spreads])
    low, high = np.array([one["interval"] for one in spreads]).T
    per_seed = [one["per_seed"] for one in spreads]
    values, where = np.concatenate(per_seed), np.repeat(fractions(found), [len(one) for one in per_seed])
    never_falls = (high >= np.maximum.accumulate(low)).all()  # False with a single seed, whose interval is unknown
    return {
        "rises": bool((np.diff(means) >= 0).all() and means[-1] > means[0]) if len(found) > 1 else None,
        "rises_within_intervals": bool(never_falls and low[-1] > high[0]) if len(found) > 1 else None,
        "spearman": rank_correlation(where, values),
    }

"""The check whether the probe reads the images of the study's own levels.

The probe was trained and checked on the rows of `probe.data`, which may be other levels.
"""

import dataclasses
import functools
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from cspace_jax import processes, rng
from cspace_jax.config import fingerprint, grid
from cspace_jax.config.concepts import SEPARATIONS
from cspace_jax.config.reading import fail
from cspace_jax.config.setting import Setting
from cspace_jax.data.opened import source_of
from cspace_jax.data.source import Source
from cspace_jax.engine.placement import shared_pool
from cspace_jax.evaluation.probe import ProbeSpec, logits
from cspace_jax.pipeline.probe import Probe, first_device
from cspace_jax.pipeline.study import Study
from cspace_jax.storage.files import write_atomic

IMAGES = 64  # of each class and level


def check(study: Study, probe: Probe) -> None:
    """Measure how well the probe reads every level's own images, and keep the accuracies.

    The images lie at the class means and in the training ranges. Nothing is measured where nothing would be refused
    (`probe.min_accuracy` = 0), and where levels do not differ in their images, as those of pictures without a tint.

    Raises:
      UserError: a concept is read with less than `probe.min_accuracy` at the class means of a level, or the file
        cannot be written.
    """
    limit = study.config.probe.min_accuracy
    levels = _levels(study) if limit > 0 else []
    if not levels:
        return
    found = _kept(study, probe, levels) or _measure(study, probe, levels)
    worst = min(((level, name) for level in found for name in level["means"]), key=lambda one: one[0]["means"][one[1]])
    level, name = worst
    if not level["means"][name] >= limit:
        where = ", ".join(f"{axis}={level['setting'][axis]:g}" for axis in SEPARATIONS)
        reads = f"at {where} the probe reads {name} with an accuracy of {level['means'][name]:.4f} only"
        advice = "add a row of such separations to probe.data, raise probe.steps, or lower probe.min_accuracy"
        fail("probe.min_accuracy", limit, f"{reads}; {advice}")


def _levels(study: Study) -> list[dict[str, float]]:
    """Return the distinct separations of the grid, axis -> value. Pictures without a tint give []."""
    source = source_of(study.config.data)
    if source.real and not study.config.data.tint:
        return []
    rows = [{axis: float(one[axis]) for axis in SEPARATIONS} for one in grid.grid_settings(study.config.grid)]
    return [row for i, row in enumerate(rows) if row not in rows[:i]]


def _file(study: Study, probe: Probe, levels: list[dict[str, float]]) -> Any:
    """Return the file of the accuracies."""
    digits = fingerprint(json.dumps([probe.info["hash"], levels, IMAGES]), 16)
    return study.workdir.probe_levels(digits)


def _kept(study: Study, probe: Probe, levels: list[dict[str, float]]) -> list[dict[str, Any]] | None:
    """Return the accuracies that were kept, None if they must be measured."""
    try:
        found = json.loads(_file(study, probe, levels).read_text())
        return found if all(level["means"] for level in found) else None
    except (OSError, ValueError, TypeError, KeyError):  # not measured yet, or damaged: measured anew
        return None


def _measure(study: Study, probe: Probe, levels: list[dict[str, float]]) -> list[dict[str, Any]]:
    """Measure the accuracies of all levels, keep and return them."""
    source = source_of(study.config.data)
    pool = shared_pool(source.pool).at(first_device())
    key = rng.stream(rng.run_key(study.config.probe.seed), "probe")
    base = grid.example_setting(study.config.grid)
    found = []
    for level in levels:
        setting = dataclasses.replace(base, **{axis: jnp.float32(value) for axis, value in level.items()})
        accuracies = {}
        for kind, at_mean in (("means", True), ("ranges", False)):
            right = np.asarray(_right(source, probe.spec, probe.params, setting, pool, key, at_mean))
            accuracies[kind] = dict(zip(source.classes.active, right.mean(axis=0).tolist(), strict=True))
        found.append({"setting": level, **accuracies})
    if processes.is_first():
        write_atomic(_file(study, probe, levels), json.dumps(found, indent=2) + "\n")
        least = {kind: min(min(level[kind].values()) for level in found) for kind in ("means", "ranges")}
        print(
            f"probe: reads the {len(found)} levels of the study with an accuracy of at least {least['means']:.4f} at "
            f"the class means and {least['ranges']:.4f} in the training ranges"
        )
    return found


@functools.partial(jax.jit, static_argnums=(0, 1, 6))
def _right(
    source: Source, spec: ProbeSpec, params: dict, setting: Setting, pool: Any, key: jax.Array, at_mean: bool
) -> Bool[Array, "n concept"]:
    """Return whether the probe reads each concept of some images of a level right."""
    items = source.examples(setting, IMAGES, key, at_mean=at_mean)
    pairs = logits(spec, params, source.images(pool, items))
    return pairs.argmax(axis=-1) == jnp.asarray(source.classes.bits)[items.klass]

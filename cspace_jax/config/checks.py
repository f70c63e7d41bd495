"""Checks that a typed configuration makes sense.

Each failure is one line for the user.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from cspace_jax.config.concepts import CONCEPTS, SEPARATION, SEPARATIONS, TABLE
from cspace_jax.config.fields import Declared, declared
from cspace_jax.config.reading import fail, flatten, one_of, plain
from cspace_jax.config.saving import save_steps
from cspace_jax.config.schema import (
    DGP,
    Config,
    masked_of,
    trained_of,
)


def check(config: Config) -> None:
    """Raise UserError for the first thing that is wrong with a configuration.

    Its one line names the field, the value and what is allowed. For a source other than the data-generating
    process, `check_source` checks the rest once it is opened.
    """
    for step in (_declared, _grid, _data, _networks, _diffusion, _elicit, _save, _batches, _probe_data, _figures):
        step(config)
    data = config.data
    if data.source == DGP:
        rows = 2 ** len(data.active) * config.probe.images_per_class * len(config.probe.data)
        check_source(config, data.active, trained_of(len(data.active), data.held_out), data.train_images, rows)


def check_source(
    config: Config, active: Sequence[str], trained: Sequence[str], train_images: int, probe_images: int
) -> None:
    """Raise UserError if a study does not fit the concepts, classes and numbers of images of its source.

    Args:
      config: the study.
      active: its concepts.
      trained: codes of the classes that are trained on.
      train_images: images of a run.
      probe_images: images that the probe is trained on.
    """
    _mask(config, active, trained)
    if config.elicit.protocols and config.elicit.concept:
        one_of("elicit.concept", config.elicit.concept, (*active, "each"))
    if config.optim.batch_size > train_images:
        limit = f"must be at most the {train_images} training images (data.images_per_class, data.train_ratio)"
        fail("optim.batch_size", config.optim.batch_size, limit)
    if config.probe.batch_size > probe_images:
        fail("probe.batch_size", config.probe.batch_size, f"must be at most the {probe_images} images of the probe")


def _declared(config: Config) -> None:
    """Check every field against its declaration: names first, then numbers."""
    if not config.study.strip():
        fail("study", config.study, "must be a name")
    leaves = flatten(plain(config))
    for path, _, what in declared(Config):
        if what.names:
            one_of(path, leaves[path], what.names)
    for path, _, what in declared(Config):
        if what.interval is not None:
            value = leaves[path]
            items = (
                [(f"{path}[{i}]", item) for i, item in enumerate(value)] if isinstance(value, list) else [(path, value)]
            )
            for place, item in items:
                _within(place, item, what)


def _within(path: str, value: float, what: Declared) -> None:
    """Raise UserError if a value lies outside its field's interval."""
    if what.interval is not None and value not in what.interval:
        fail(path, value, f"must be {what.interval}{': ' + what.reason if what.reason else ''}")


def _grid(config: Config) -> None:
    """Check that every axis of the grid has values, all distinct, and that they make runs differ."""
    for field in dataclasses.fields(config.grid):
        values = getattr(config.grid, field.name)
        if not values:
            fail(f"grid.{field.name}", values, "an axis of the grid needs at least one value")
        _distinct(f"grid.{field.name}", values)
        if field.name != "seeds":
            _distinct_as_trained(f"grid.{field.name}", values)
    for name, axis in SEPARATION.items() if config.data.source == DGP else ():
        values = getattr(config.grid, axis)
        if len(values) > 1 and TABLE[name].neutral and name not in config.data.active:
            fail(f"grid.{axis}", values, f"several values need {name!r} in data.active, else runs are equal")


def _distinct(path: str, values: Sequence[object]) -> None:
    """Raise UserError if a value is repeated."""
    repeated = [value for i, value in enumerate(values) if value in values[:i]]
    if repeated:
        fail(path, values, f"values must be distinct, {repeated[0]!r} is repeated")


def _distinct_as_trained(path: str, values: Sequence[float]) -> None:
    """Raise UserError if two values are one float32."""
    trained = [float(np.float32(value)) for value in values]
    if len(set(trained)) < len(trained):
        fail(path, values, "values must differ as they are trained, in float32")


def _data(config: Config) -> None:
    """Check the names of concepts, and of drawn images the concepts, the blur and the numbers of images."""
    data = config.data
    _distinct("data.concepts", data.concepts)
    if data.source != DGP:
        return
    for name in data.active:
        one_of("data.active", name, CONCEPTS)
    _distinct("data.active", data.active)
    if tuple(name for name in CONCEPTS if name in data.active) != data.active:
        fail("data.active", data.active, f"must follow the order {', '.join(CONCEPTS)}")
    if not 2 <= len(data.active) <= len(CONCEPTS):
        fail("data.active", data.active, f"must hold 2 to {len(CONCEPTS)} concepts, not {len(data.active)}")
    if not data.images_per_class:
        fail("data.images_per_class", 0, "must be at least 1: drawn images have no end")
    if 4 * data.blur > data.image_size:
        fail("data.blur", data.blur, f"must be at most data.image_size / 4 = {data.image_size / 4:g} pixels")
    if data.train_images in (0, data.pool_images):
        fail("data.train_ratio", data.train_ratio, f"must leave images on both sides of {data.pool_images}")


def _mask(config: Config, active: Sequence[str], trained: Sequence[str]) -> None:
    """Check the masked concept and the masked class."""
    concept, klass = masked_of(active, config.data.mask_concept, config.data.mask_class)
    one_of("data.mask_concept", concept, tuple(active))
    if config.data.held_out and not config.data.mask_class and max(config.grid.mask) == 0:
        return  # nothing is masked, and with other held-out classes the default class need not be trained on
    if klass not in trained:
        limit = f"must be a training class, one of {', '.join(trained)} (bits of {', '.join(active)})"
        fail("data.mask_class", klass, limit)


def _networks(config: Config) -> None:
    """Check that the image can be halved from level to level and that groups divide the channels."""
    network, probe = config.network, config.probe
    _levels("network", network.channels, network.groups, config.data.image_size)
    _levels("probe", probe.channels, probe.groups, config.data.image_size)
    if network.attention:
        _divides("network.heads", network.heads, network.channels[-1], "network.channels[-1]")
    _divides("probe.heads", probe.heads, probe.channels[-1], "probe.channels[-1]")
    _divides("probe.groups", probe.groups, probe.out_channels, "probe.out_channels")


def _levels(group: str, channels: tuple[int, ...], groups: int, image_size: int) -> None:
    """Check that the image can be halved at every level and that groups divide the channels."""
    if not channels:
        fail(f"{group}.channels", channels, "needs at least one level")
    factor = 2 ** (len(channels) - 1)
    if image_size % factor:
        limit = f"must be divisible by {factor}, as {group}.channels has {len(channels)} levels"
        fail("data.image_size", image_size, limit)
    for i, width in enumerate(channels):
        _divides(f"{group}.groups", groups, width, f"{group}.channels[{i}]")


def _divides(path: str, value: int, whole: int, name: str) -> None:
    """Raise UserError unless `value` divides `whole`."""
    if whole % value:
        fail(path, value, f"must divide {name} = {whole}")


def _diffusion(config: Config) -> None:
    """Check the noise range, the guidance and the number of kept samples."""
    diffusion, evaluate = config.diffusion, config.evaluate
    if diffusion.gamma_min >= diffusion.gamma_max:
        fail("diffusion.gamma_min", diffusion.gamma_min, f"must be below diffusion.gamma_max = {diffusion.gamma_max:g}")
    if evaluate.guidance != 1 and diffusion.p_uncond == 0:
        fail("evaluate.guidance", evaluate.guidance, "must be 1 unless diffusion.p_uncond is above 0 (now 0)")
    if evaluate.keep_samples > evaluate.samples_per_class:
        limit = f"must be at most evaluate.samples_per_class = {evaluate.samples_per_class}"
        fail("evaluate.keep_samples", evaluate.keep_samples, limit)


def _elicit(config: Config) -> None:
    """Check that protocols and values are distinct, that there are values, and that the step of patching is saved."""
    elicit = config.elicit
    _distinct("elicit.protocols", elicit.protocols)
    saved = save_steps(config.save, config.optim.steps)
    if elicit.patch_step not in (0, *saved):
        fail("elicit.patch_step", elicit.patch_step, "must be a saved step, or 0 for the last")
    for name in ("overprompt", "alpha", "beta", "guidance"):
        values = getattr(elicit, name)
        if not values:
            fail(f"elicit.{name}", values, "needs at least one value")
        _distinct(f"elicit.{name}", values)


def _save(config: Config) -> None:
    """Check the saved steps and which of them are kept."""
    save, total = config.save, config.optim.steps
    if not save.steps and save.start > total:
        fail("save.start", save.start, f"must be at most optim.steps = {total}")
    for i, step in enumerate(save.steps):
        if step > total:
            fail(f"save.steps[{i}]", step, f"must be at most optim.steps = {total}")
    _distinct("save.steps", save.steps)
    if tuple(sorted(save.steps)) != save.steps:
        fail("save.steps", save.steps, "must increase")
    saved = save_steps(save, total)
    for name in ("keep_steps", "keep_states"):
        for i, step in enumerate(getattr(save, name)):
            if step not in saved:
                near = min(saved, key=lambda one: abs(one - step))
                fail(f"save.{name}[{i}]", step, f"must be one of the {len(saved)} saved steps; the nearest is {near}")
        _distinct(f"save.{name}", getattr(save, name))


def _batches(config: Config) -> None:
    """Check that the microbatch divides the batch."""
    if config.engine.microbatch:
        _divides("engine.microbatch", config.engine.microbatch, config.optim.batch_size, "optim.batch_size")


def _probe_data(config: Config) -> None:
    """Check that the probe has rows of data, all distinct, complete and within the limits of the grid."""
    if not config.probe.data:
        fail("probe.data", config.probe.data, f"needs at least one row ({', '.join(SEPARATIONS)}, narrow)")
    _distinct("probe.data", config.probe.data)
    limits = {path: what for path, _, what in declared(Config)}
    for i, row in enumerate(config.probe.data):
        if len(row) != len(SEPARATIONS) + 1:
            fail(f"probe.data[{i}]", row, f"must hold {', '.join(SEPARATIONS)}, narrow")
        for name, value in zip(SEPARATIONS, row[:-1], strict=True):
            _within(f"probe.data[{i}] {name}", value, limits[f"grid.{name}"])


def _figures(config: Config) -> None:
    """Check that no figure is named twice."""
    _distinct("figures", config.figures)

"""The checks that a typed configuration makes sense; each failure is one line for the user."""

import dataclasses
import math
import operator
from collections.abc import Sequence

from cspace_jax.config.reading import fail, flatten, one_of, plain
from cspace_jax.config.schema import (
    CONCEPTS,
    CONDITIONINGS,
    CONVOLUTIONS,
    DECAYS,
    FIGURES,
    MASK_IMAGES,
    MASK_MODES,
    PLANS,
    PRECISIONS,
    RUN_PLANS,
    SCALES,
    SCHEDULES,
    Config,
    save_steps,
)

MAX_SEED = 2**32 - 1
MAX_SEP_COL = 0.8  # 0.5 + sep/2 + sep/8 <= 1
MAX_SEP_SIZE = 0.7  # 0.45 - sep/2 >= 0.1, the floor of the radius
MAX_SEP_BG = 0.8  # 0.5 + sep/2 + sep/8 <= 1


@dataclasses.dataclass(frozen=True)
class Interval:
    """Numbers from `low` to `high`; an open end is excluded."""

    low: float
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: float) -> bool:
        above = operator.gt if self.open_low else operator.ge
        below = operator.lt if self.open_high else operator.le
        return above(value, self.low) and below(value, self.high)

    def __str__(self) -> str:
        lower = f"{'above' if self.open_low else 'at least'} {self.low:g}"
        if math.isinf(self.high):
            return f"must be {lower}"
        bracket = f"{'(' if self.open_low else '['}{self.low:g}, {_short(self.high)}{')' if self.open_high else ']'}"
        return f"must be in {bracket}"


def _short(number: float) -> str:
    return str(int(number)) if number == int(number) else f"{number:g}"


_ONE_UP, _ZERO_UP, _ABOVE_ZERO = Interval(1), Interval(0), Interval(0, open_low=True)
_UNIT, _BELOW_ONE = Interval(0, 1), Interval(0, 1, open_high=True)
_STEPS = Interval(1, 2**31 - 1)
_GAMMA = Interval(-50, 50)  # exp(gamma) stays finite in float32
_NOISE = Interval(1e-6, 1)  # its square divides the reconstruction term in float32
LIMITS = {
    "grid.seeds": Interval(0, MAX_SEED),
    "grid.sep_col": Interval(0, MAX_SEP_COL, open_low=True),
    "grid.sep_size": Interval(0, MAX_SEP_SIZE, open_low=True),
    "grid.sep_bg": Interval(0, MAX_SEP_BG, open_low=True),
    "grid.learning_rate": _ABOVE_ZERO,
    "grid.weight_decay": _ZERO_UP,
    "grid.init_scale": _ABOVE_ZERO,
    "grid.data_noise": _NOISE,
    "grid.mask": _UNIT,
    "data.image_size": Interval(4, 1024),
    "data.blur": _ZERO_UP,
    "data.images_per_class": _ONE_UP,
    "data.train_ratio": Interval(0, 1, open_low=True, open_high=True),
    "data.test_images_per_class": _ONE_UP,
    "network.channels": _ONE_UP,
    "network.blocks": _ONE_UP,
    "network.groups": _ONE_UP,
    "network.heads": _ONE_UP,
    "network.dropout": _BELOW_ONE,
    "diffusion.gamma_min": _GAMMA,
    "diffusion.gamma_max": _GAMMA,
    "diffusion.p_uncond": _BELOW_ONE,
    "optim.batch_size": _ONE_UP,
    "optim.steps": _STEPS,
    "optim.clip": _ABOVE_ZERO,
    "optim.b1": _BELOW_ONE,
    "optim.b2": _BELOW_ONE,
    "optim.eps": _ABOVE_ZERO,
    "optim.ema": _BELOW_ONE,
    "optim.log_every": _ONE_UP,
    "save.start": _ONE_UP,
    "save.count": _ONE_UP,
    "save.steps": _ONE_UP,
    "evaluate.samples_per_class": _ONE_UP,
    "evaluate.sampling_steps": _ONE_UP,
    "evaluate.guidance": _ZERO_UP,
    "evaluate.keep_samples": _ZERO_UP,
    "evaluate.loss_images": _ZERO_UP,
    "elicit.samples": Interval(2),  # a setting is chosen on one half and scored on the other
    "elicit.guidance": _ZERO_UP,
    "elicit.patch_step": _ZERO_UP,
    "elicit.images_per_call": _ZERO_UP,
    "probe.channels": _ONE_UP,
    "probe.blocks": _ONE_UP,
    "probe.groups": _ONE_UP,
    "probe.heads": _ONE_UP,
    "probe.out_channels": _ONE_UP,
    "probe.dropout": _BELOW_ONE,
    "probe.init_scale": _ABOVE_ZERO,
    "probe.steps": _STEPS,
    "probe.batch_size": _ONE_UP,
    "probe.learning_rate": _ABOVE_ZERO,
    "probe.weight_decay": _ZERO_UP,
    "probe.clip": _ABOVE_ZERO,
    "probe.images_per_class": _ONE_UP,
    "probe.test_images_per_class": _ONE_UP,
    "probe.min_accuracy": _UNIT,
    "probe.seed": Interval(0, MAX_SEED),
    "engine.devices": _ZERO_UP,
    "engine.steps_per_call": _ZERO_UP,
    "engine.microbatch": _ZERO_UP,
    "engine.wave": _ZERO_UP,
    "engine.state_seconds": _ZERO_UP,
    "engine.memory_gb": _ZERO_UP,
}
# Why a separation has an upper end, said after the interval.
REASONS = {
    "sep_col": "the class colours 0.5 +- sep_col/2 +- sep_col/8 must stay within [0, 1]",
    "sep_size": "the mean radius 0.45 - sep_size/2 of the small class must be at least 0.1",
    "sep_bg": "the class backgrounds 0.5 +- sep_bg/2 +- sep_bg/8 must stay within [0, 1]",
}


def check(config: Config) -> None:
    """Raise UserError, one line naming field, value and what is allowed, for the first thing that is wrong."""
    for step in (
        _names,
        _limits,
        _grid,
        _data,
        _mask,
        _networks,
        _diffusion,
        _elicit,
        _save,
        _batches,
        _probe_data,
        _figures,
    ):
        step(config)


def _names(config: Config) -> None:
    if not config.study.strip():
        fail("study", config.study, "must be a name")
    one_of("scale", config.scale, SCALES)
    one_of("network.conditioning", config.network.conditioning, CONDITIONINGS)
    one_of("diffusion.schedule", config.diffusion.schedule, SCHEDULES)
    one_of("data.mask_mode", config.data.mask_mode, MASK_MODES)
    one_of("data.mask_images", config.data.mask_images, MASK_IMAGES)
    one_of("optim.decay", config.optim.decay, DECAYS)
    one_of("engine.plan", config.engine.plan, PLANS)
    one_of("engine.precision", config.engine.precision, PRECISIONS)
    one_of("engine.convolution", config.engine.convolution, CONVOLUTIONS)
    one_of("engine.runs", config.engine.runs, RUN_PLANS)


def _limits(config: Config) -> None:
    leaves = flatten(plain(config))
    for path, interval in LIMITS.items():
        value = leaves[path]
        items = [(f"{path}[{i}]", item) for i, item in enumerate(value)] if isinstance(value, list) else [(path, value)]
        for place, item in items:
            _within(place, item, interval, REASONS.get(path.split(".")[-1], ""))


def _within(path: str, value: float, interval: Interval, reason: str = "") -> None:
    if value not in interval:
        fail(path, value, f"{interval}{': ' + reason if reason else ''}")


def _grid(config: Config) -> None:
    for field in dataclasses.fields(config.grid):
        values = getattr(config.grid, field.name)
        if not values:
            fail(f"grid.{field.name}", values, "an axis of the grid needs at least one value")
        _distinct(f"grid.{field.name}", values)
    if len(config.grid.sep_bg) > 1 and "bg_color" not in config.data.active:
        fail("grid.sep_bg", config.grid.sep_bg, "several values need 'bg_color' in data.active, else runs are equal")


def _distinct(path: str, values: Sequence[object]) -> None:
    repeated = [value for i, value in enumerate(values) if value in values[:i]]
    if repeated:
        fail(path, values, f"values must be distinct, {repeated[0]!r} is repeated")


def _data(config: Config) -> None:
    data = config.data
    for name in data.active:
        one_of("data.active", name, CONCEPTS)
    _distinct("data.active", data.active)
    if tuple(name for name in CONCEPTS if name in data.active) != data.active:
        fail("data.active", data.active, f"must follow the order {', '.join(CONCEPTS)}")
    if len(data.active) not in (2, 3):
        fail("data.active", data.active, f"must hold 2 or 3 concepts (4 or 8 classes), not {len(data.active)}")
    if 4 * data.blur > data.image_size:
        fail("data.blur", data.blur, f"must be at most data.image_size / 4 = {data.image_size / 4:g} pixels")
    if data.train_images in (0, data.pool_images):
        fail("data.train_ratio", data.train_ratio, f"must leave images on both sides of {data.pool_images}")


def _mask(config: Config) -> None:
    active = config.data.active
    concept, klass = config.data.masked
    one_of("data.mask_concept", concept, active)
    trained = ["0" * len(active), *("0" * i + "1" + "0" * (len(active) - 1 - i) for i in reversed(range(len(active))))]
    if klass not in trained:
        limit = f"must be a training class, one of {', '.join(trained)} (bits of {', '.join(active)})"
        fail("data.mask_class", klass, limit)


def _networks(config: Config) -> None:
    network, probe = config.network, config.probe
    _levels("network", network.channels, network.groups, config.data.image_size)
    _levels("probe", probe.channels, probe.groups, config.data.image_size)
    if network.attention:
        _divides("network.heads", network.heads, network.channels[-1], "network.channels[-1]")
    _divides("probe.heads", probe.heads, probe.channels[-1], "probe.channels[-1]")
    _divides("probe.groups", probe.groups, probe.out_channels, "probe.out_channels")


def _levels(group: str, channels: tuple[int, ...], groups: int, image_size: int) -> None:
    if not channels:
        fail(f"{group}.channels", channels, "needs at least one level")
    factor = 2 ** (len(channels) - 1)
    if image_size % factor:
        limit = f"must be divisible by {factor}, as {group}.channels has {len(channels)} levels"
        fail("data.image_size", image_size, limit)
    for i, width in enumerate(channels):
        _divides(f"{group}.groups", groups, width, f"{group}.channels[{i}]")


def _divides(path: str, value: int, whole: int, name: str) -> None:
    if whole % value:
        fail(path, value, f"must divide {name} = {whole}")


def _diffusion(config: Config) -> None:
    diffusion, evaluate = config.diffusion, config.evaluate
    if diffusion.gamma_min >= diffusion.gamma_max:
        fail("diffusion.gamma_min", diffusion.gamma_min, f"must be below diffusion.gamma_max = {diffusion.gamma_max:g}")
    if evaluate.guidance != 1 and diffusion.p_uncond == 0:
        fail("evaluate.guidance", evaluate.guidance, "must be 1 unless diffusion.p_uncond is above 0 (now 0)")
    if evaluate.keep_samples > evaluate.samples_per_class:
        limit = f"must be at most evaluate.samples_per_class = {evaluate.samples_per_class}"
        fail("evaluate.keep_samples", evaluate.keep_samples, limit)


def _elicit(config: Config) -> None:
    elicit = config.elicit
    _distinct("elicit.protocols", elicit.protocols)
    if elicit.protocols:
        one_of("elicit.concept", elicit.concept, config.data.active)
    saved = save_steps(config.save, config.optim.steps)
    if elicit.patch_step not in (0, *saved):
        fail("elicit.patch_step", elicit.patch_step, "must be a saved step, or 0 for the last")
    for name in ("overprompt", "alpha", "beta", "guidance"):
        values = getattr(elicit, name)
        if not values:
            fail(f"elicit.{name}", values, "needs at least one value")
        _distinct(f"elicit.{name}", values)


def _save(config: Config) -> None:
    save, total = config.save, config.optim.steps
    if not save.steps and save.start > total:
        fail("save.start", save.start, f"must be at most optim.steps = {total}")
    for i, step in enumerate(save.steps):
        if step > total:
            fail(f"save.steps[{i}]", step, f"must be at most optim.steps = {total}")
    _distinct("save.steps", save.steps)
    if tuple(sorted(save.steps)) != save.steps:
        fail("save.steps", save.steps, "must increase")


def _batches(config: Config) -> None:
    available = config.data.train_images
    if config.optim.batch_size > available:
        limit = f"must be at most the {available} training images (data.images_per_class, data.train_ratio)"
        fail("optim.batch_size", config.optim.batch_size, limit)
    if config.engine.microbatch:
        _divides("engine.microbatch", config.engine.microbatch, config.optim.batch_size, "optim.batch_size")
    probe = config.probe
    pool = 2 ** len(config.data.active) * probe.images_per_class * len(probe.data)
    if probe.data and probe.batch_size > pool:
        fail("probe.batch_size", probe.batch_size, f"must be at most the {pool} images of the probe")


def _probe_data(config: Config) -> None:
    if not config.probe.data:
        fail("probe.data", config.probe.data, "needs at least one row (sep_col, sep_size, sep_bg, narrow)")
    _distinct("probe.data", config.probe.data)
    for i, row in enumerate(config.probe.data):
        for name, value in zip(("sep_col", "sep_size", "sep_bg"), row, strict=False):
            _within(f"probe.data[{i}] {name}", value, LIMITS[f"grid.{name}"], REASONS[name])


def _figures(config: Config) -> None:
    for name in config.figures:
        one_of("figures", name, FIGURES)
    _distinct("figures", config.figures)

"""Figures made of images: Fig. 2 (the classes), and samples over training."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Float, Real, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cspace_jax.analysis.levels import levels, ok_runs
from cspace_jax.config import DataConfig
from cspace_jax.config.concepts import TABLE
from cspace_jax.config.setting import Setting
from cspace_jax.data import concepts, datasets, rendering
from cspace_jax.plots import style
from cspace_jax.plots.registry import figure, rendered_images, stored_samples

Samples = Mapping[int, UInt8[np.ndarray, "r k n h w 3"]]


def class_images(
    data: DataConfig, setting: Mapping[str, float], seed: int = 0
) -> tuple[Float[np.ndarray, "k h w 3"], concepts.ConceptVector]:
    """Render one image per class at the class means.

    Returns images [k, h, w, 3] in [0, 1], with h the x coordinate, and their concepts [k].

    Objects are centred unless their position is a concept.
    """
    bits = concepts.classes(data.active).bits
    ranges = concepts.ranges_of(Setting(**setting))
    cv = datasets.sample_concepts(data.active, ranges, jnp.asarray(bits), jax.random.key(seed), at_mean=True)
    for name in ("x", "y"):
        if name not in data.active:
            cv = dataclasses.replace(cv, **{name: jnp.zeros(len(bits))})
    return np.asarray(rendering.render(cv, data.image_size, data.blur)), jax.tree.map(np.asarray, cv)


@figure("fig2", paper="Fig. 2", needs=(rendered_images,))
@style.styled()
def fig2(data: DataConfig, setting: Mapping[str, float], seed: int = 0) -> Figure:
    """Draw one rendered image per class with its concept values (paper Fig. 2).

    setting gives sep_col, sep_size and sep_bg. With two concepts the images stand at the corners of concept space, else
    in rows of four. Training classes have a blue frame, held-out classes an orange-red one.
    """
    images, cv = class_images(data, setting, seed)
    classes = concepts.classes(data.active, data.held_out)
    square = len(data.active) == 2
    columns = 2 if square else min(4, classes.num)
    rows = -(-classes.num // columns)
    fig = style.new_figure(2.1 * columns + 0.4, (2.6 + 0.17 * len(data.active)) * rows + 0.3)
    axes = fig.subplots(rows, columns, squeeze=False)
    for ax in axes.ravel():
        ax.set_axis_off()
    for klass in range(classes.num):
        bits = classes.bits[klass]
        ax: Any = axes[1 - bits[1], bits[0]] if square else axes.ravel()[klass]
        ax.set_axis_on()
        _class_panel(ax, images[klass], cv, classes, klass)
    if square:
        fig.supxlabel(_axis(data.active[0]), fontsize=9)
        fig.supylabel(_axis(data.active[1]), fontsize=9)
    return fig


def _axis(name: str) -> str:
    words = " $\\rightarrow$ ".join(TABLE[name].words)
    return f"{style.concept_title(name)}: {words}"


def _class_panel(
    ax: Axes, image: Real[np.ndarray, "h w 3"], cv: concepts.ConceptVector, classes: concepts.Classes, klass: int
) -> None:
    trained = bool(classes.trained[klass])
    color = style.TRAINED_COLOR if trained else style.HELD_OUT_COLOR
    style.show_image(ax, image, color, 2.5)
    words = f"{classes.names[klass]}  {classes.describe(klass)}\n{'trained' if trained else 'held out'}"
    ax.set_title(words, color=color)
    values = [_value(name, np.asarray(getattr(cv, name)[klass])) for name in classes.active]
    ax.set_xlabel("\n".join(values), fontsize=7.5)


def _value(name: str, value: Real[np.ndarray, "..."]) -> str:
    one = TABLE[name]
    if one.ends is None:
        return one.words[int(value)]
    words = one.quantity or style.concept_title(name)
    numbers = ", ".join(f"{one:.3g}" for one in np.atleast_1d(value))
    return f"{words} ({numbers})" if value.ndim else f"{words} {numbers}"


@figure("classes")
@style.styled()
def class_examples(ds: xr.Dataset, examples: UInt8[np.ndarray, "k n h w 3"], columns: int = 8) -> Figure:
    """Draw some images of each class, one row a class; of pictures those that no run is trained on."""
    shown = min(columns, examples.shape[1])
    fig = style.new_figure(0.95 * shown + 1.6, 0.98 * len(examples) + 0.5)
    axes: Any = fig.subplots(len(examples), shown, squeeze=False)
    for klass, column in np.ndindex(axes.shape):
        color = style.TRAINED_COLOR if ds["trained"].values[klass] else style.HELD_OUT_COLOR
        style.show_image(axes[klass, column], examples[klass, column], color)
    for klass in range(len(examples)):
        _row_label(axes[klass, 0], ds, klass)
    fig.suptitle("images of each class", fontsize=9)
    return fig


def _row_label(ax: Axes, ds: xr.Dataset, klass: int) -> None:
    trained = bool(ds["trained"].values[klass])
    words = style.class_label(ds, klass).replace(" (", "\n").rstrip(")") + ("" if trained else "\nheld out")
    color = style.TRAINED_COLOR if trained else style.HELD_OUT_COLOR
    ax.set_ylabel(words, rotation=0, ha="right", va="center", color=color, fontsize=8)


def choose_steps(steps: list[int], number: int) -> list[int]:
    """Return at most `number` of the steps, spread evenly over the list, first and last included."""
    picked = np.unique(np.linspace(0, len(steps) - 1, min(number, len(steps))).round().astype(int))
    return [steps[i] for i in picked]


@figure("samples", needs=(stored_samples,))
@style.styled()
def sample_grid(
    ds: xr.Dataset, samples: Samples, run: int | None = None, columns: int = 8, per_class: int = 1
) -> Figure:
    """Draw generated samples over training: rows classes (`per_class` rows each), columns steps.

    samples: step -> uint8 [r, k, n, h, w, 3]. run None takes the first run that did not diverge.
    """
    run = int(np.argmax(ok_runs(ds))) if run is None else run
    steps = choose_steps(sorted(samples), columns)
    per_class = min(per_class, samples[steps[0]].shape[2])
    rows = ds.sizes["klass"] * per_class
    fig = style.new_figure(0.95 * len(steps) + 1.3, 0.98 * rows + 0.7)
    axes: Any = fig.subplots(rows, len(steps), squeeze=False)
    for row, column in np.ndindex(axes.shape):
        klass, number = divmod(row, per_class)
        trained = bool(ds["trained"].values[klass])
        frame = style.TRAINED_COLOR if trained else style.HELD_OUT_COLOR
        style.show_image(axes[row, column], samples[steps[column]][run, klass, number], frame)
        if column == 0 and number == 0:
            _row_label(axes[row, 0], ds, klass)
    for column, step in enumerate(steps):
        axes[0, column].set_title(f"{step:,}", fontsize=8)
    fig.suptitle(f"samples over training steps, {run_label(ds, run)}", fontsize=9)
    return fig


def run_label(ds: xr.Dataset, run: int) -> str:
    """Return a run in words: the settings that vary, and its seed."""
    level = next(one for one in levels(ds) if run in one.runs + one.diverged)
    seed = f"seed {int(ds['seed'].values[run])}"
    return f"{level.label}, {seed}" if level.varying else seed

"""Figs. 5 and 9b: toy models of learning in concept space, and the same models fitted to measured trajectories."""

from collections.abc import Sequence

import matplotlib
import numpy as np
import xarray as xr
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cspace_jax.analysis import curves, identity_mapping, landscape, shared_landscape, underspecification
from cspace_jax.analysis import levels as signal_levels
from cspace_jax.analysis.learning import default_sigma, trajectory
from cspace_jax.analysis.levels import Level
from cspace_jax.analysis.shared_landscape import SharedFit
from cspace_jax.config.protocol_names import NAIVE
from cspace_jax.errors import UserError
from cspace_jax.plots import style
from cspace_jax.plots.trajectories import draw_path

TIMES = np.linspace(0.0, landscape.DURATION, 200)
SURFACES = (1.0, 8.0, 10.0, 12.0)  # times at which the energy is drawn
FAN = np.linspace(1.0, 5.0, 8)  # values of a, the authors' notebook's range


def _square(
    ax: Axes, title: str, names: tuple[str, str] = ("concept 1 (colour)", "concept 2 (size)")
) -> None:  # fmt: skip
    ax.set(xlim=(-0.05, 1.05), ylim=(-0.05, 1.05), aspect="equal", xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    ax.set(xlabel=names[0], ylabel=names[1])
    ax.set_title(title, fontsize=9)


def _shades(count: int) -> Float[np.ndarray, "shade 4"]:
    return matplotlib.colormaps[style.SIGNAL_MAP](np.linspace(0.0, 0.9, count))


@style.styled()
def fig5(form: str = "eq1") -> Figure:
    """Draw the toy model's trajectories (paper Fig. 5): classes 00 and 11 by Eq. 1, and the fan over a of a form.

    Left: class 11 passes its biased target clockwise for a > 1 and counter-clockwise for a < 1. Right: `form` (one of
    `landscape.FORMS`) and its mirror image for eight values of a.
    """
    fig = style.new_figure(6.8, 3.3)
    left, right = fig.subplots(1, 2)
    for a, color in ((2.0, style.OKABE_ITO[0]), (0.5, style.OKABE_ITO[1])):
        draw_path(left, landscape.trajectory(landscape.eq1(a), TIMES), color, f"11, a = {a:g}")
    nothing = landscape.eq1(2.0, actual=(0.0, 0.0), biased=(0.0, 0.0))
    draw_path(left, landscape.trajectory(nothing, TIMES), style.OKABE_ITO[2], "00, a = 2")
    left.legend(loc="lower right")
    _square(left, "Eq. 1 (reconstruction)")
    for a, color in zip(FAN, _shades(len(FAN)), strict=True):
        model = landscape.FORMS[form](a)
        for one in (model, landscape.mirrored(model)):
            draw_path(right, landscape.trajectory(one, TIMES), color)
    _square(right, f"{form}, a from {FAN[0]:g} (dark) to {FAN[-1]:g}")
    return fig


@style.styled()
def fig9b(alphas: Sequence[float] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0), a: float = 1.0) -> Figure:
    """Draw Eq. 2's trajectories for masked fractions alpha (paper Fig. 9b); a = 1 is our guess of the paper's value."""
    fig = style.new_figure(4.2, 3.3)
    ax = fig.subplots()
    for alpha, color in zip(alphas, _shades(len(alphas)), strict=True):
        draw_path(ax, landscape.trajectory(landscape.eq2(alpha, a), TIMES), color, f"{alpha:.0%} masked")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    _square(ax, f"Eq. 2 (reconstruction), a = {a:g}")
    return fig


@style.styled()
def surface(a: float = 2.0) -> Figure:
    """Draw the energy of Eq. 1 at four times, with the trajectory so far: the minimum moves, and the point follows."""
    fig = style.new_figure(11.0, 3.0)
    axes = fig.subplots(1, len(SURFACES), sharey=True)
    model = landscape.eq1(a)
    path = landscape.trajectory(model, TIMES)
    grid = np.stack(np.meshgrid(np.linspace(-0.05, 1.05, 80), np.linspace(-0.05, 1.05, 80)), axis=-1)
    for ax, t in zip(axes, SURFACES, strict=True):
        values = np.sqrt(landscape.energy(model, grid, t))  # the root shows the flat part around the minimum
        ax.contourf(grid[..., 0], grid[..., 1], values, levels=12, cmap="Greys_r", alpha=0.8)
        draw_path(ax, path[t >= TIMES], style.OKABE_ITO[3])
        _square(ax, f"a = {a:g}, t = {t:g}")
        ax.grid(False)
        ax.label_outer()
    return fig


@style.styled()
def measured(
    ds: xr.Dataset, protocol: str = NAIVE
) -> tuple[Figure, list[tuple[Level, landscape.Fit]], SharedFit | None]:
    """Fit Eq. 1 to the measured trajectory of the last held-out class at every level and draw both.

    Trajectories are means over seeds, smoothed as published; also returns (level, fit) of every level with runs, and
    the fit whose a is one function of the signals for all levels (dash-dotted; None where signals do not vary). The
    first two concepts are taken, the masked one across where the masked fraction alpha varies; there Eq. 2 is fitted,
    whose actual target is 1 - alpha. Dotted: the structured identity mapping's prediction from the signals alone, which
    knows of no masking.

    Raises:
      UserError: the study has fewer than five saves.
    """
    _check_saves(ds.sizes["step"])
    klass = underspecification.held_out(ds)
    swept = underspecification.is_swept(ds)
    groups = underspecification.mask_groups(ds) if swept else [signal_levels.levels(ds)]
    levels = [level for group in groups for level in group if level.runs]
    pair = underspecification.axes(ds) if swept else (0, 1)
    first, second = (style.probability_label(ds, str(ds["concept"].values[i])) for i in pair)
    fig = style.new_figure(2.9 * len(levels) + 0.3, 3.2)
    paths = [
        curves.smooth(trajectory(ds, level.runs, klass, protocol).mean(axis=0), default_sigma(ds))[:, list(pair)]
        for level in levels
    ]
    signals = np.array([level.signal for level in levels])[:, list(pair)]
    actual = [(1.0 - level.setting["mask"], 1.0) for level in levels]
    fits = [landscape.fit(ds["step"].values, *one) for one in zip(paths, actual, strict=True)]
    shared = None
    if shared_landscape.varies(signals):
        shared = shared_landscape.fit_shared(ds["step"].values, np.stack(paths), signals, fits, actual)
    axes = fig.subplots(1, len(levels), squeeze=False)[0]
    for i, (ax, level, path, found, signal) in enumerate(zip(axes, levels, paths, fits, signals, strict=True)):
        _draw_fit(ax, path, found, signal, "Eq. 2" if swept else "Eq. 1")
        if shared is not None:
            ax.plot(*shared.paths[i].T, "-.", color=style.OKABE_ITO[2], lw=1.2, label="a of signals")
        _square(ax, f"{level.label}\na = {found.a:.2g}, rms {found.residual:.3f}", (first, second))
        ax.legend(loc="lower center")
    return fig, list(zip(levels, fits, strict=True)), shared


def _check_saves(saves: int) -> None:
    if saves < landscape.LEAST_POINTS:
        raise UserError(f"a fit needs at least {landscape.LEAST_POINTS} saves, this study has {saves} (save.count)")


def _draw_fit(
    ax: Axes, path: Float[np.ndarray, "t 2"], found: landscape.Fit, signal: Float[np.ndarray, "2"], name: str
) -> None:
    if (signal > 0).all():
        ax.plot(*identity_mapping.prediction(signal).T, ":", color="#555555", lw=1.2, label="identity mapping")
    draw_path(ax, path, style.OKABE_ITO[0], "measured")
    ax.plot(*found.path.T, "--", color=style.OKABE_ITO[3], lw=1.4, label=name)


@style.styled()
def swing_by(mu: Sequence[float] = (1.0, 2.0), sigma: float = 0.05, scale: float = 0.05, seeds: int = 6) -> Figure:
    """Draw the structured identity mapping of two layers: its way to the unseen point, and the loss there over time."""
    a = identity_mapping.strengths(np.array(mu), sigma)
    times = np.linspace(0.0, 12.0 / a.min(), 1200)
    fig = style.new_figure(6.8, 3.2)
    left, right = fig.subplots(1, 2)
    for seed in range(seeds):
        weights = identity_mapping.two_layer(identity_mapping.small_start(len(mu), len(mu), scale, seed), a, times)
        draw_path(left, identity_mapping.outputs(weights, np.array(mu))[:, :2], style.class_color(seed))
        right.plot(times, identity_mapping.unseen_loss(weights, np.array(mu)), color=style.class_color(seed))
    left.set(xlabel=f"share of concept 1 (mu = {mu[0]:g})", ylabel=f"share of concept 2 (mu = {mu[1]:g})")
    right.set(xlabel="time", ylabel="loss on the unseen combination", yscale="log")
    return fig

"""Fig. 6 and all protocols with their controls: what a model can draw against what it draws when simply asked."""

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cspace_jax import analysis, capability, curves
from cspace_jax.plots import progress, style
from cspace_jax.plots.trajectories import concept_square, draw_path
from cspace_jax.protocols import NAIVE, RANDOM, SHUFFLED

PANELS = (NAIVE, "latent", "overprompt")  # in the order of the paper's Fig. 6
FIG10 = (NAIVE, "overprompt", "overprompt" + RANDOM, "latent", "latent" + RANDOM)  # the paper's Fig. 10 has two
TITLES = {NAIVE: "naive prompting", "latent": "latent intervention", "overprompt": "overprompting", "patch": "patching"}


def title_of(protocol: str) -> str:
    """Return a protocol's name as printed in figures."""
    for suffix, word in ((RANDOM, "random"), (SHUFFLED, "shuffled")):
        if protocol.endswith(suffix):
            return f"{title_of(protocol.removesuffix(suffix))}, {word}"
    return " + ".join(TITLES.get(part, part.replace("_", " ")) for part in protocol.split("+"))


def _level(ds: xr.Dataset) -> analysis.Level:
    found = analysis.levels(ds)
    return found[progress.choose_level(found, ds, NAIVE)]


def _held_out(ds: xr.Dataset) -> int:
    """Return the last held-out class, the one with every bit set."""
    return int(np.flatnonzero(~ds["trained"].values)[-1])


def _scores(ds: xr.Dataset, level: analysis.Level, klass: int, protocol: str, kind: str) -> np.ndarray:
    chosen = ds[kind].sel(protocol=protocol).isel(run=list(level.runs), klass=klass)
    return chosen.transpose("run", "step").values


@style.styled()
def fig6(ds: xr.Dataset) -> Figure:
    """Draw P(class asked for) of every seed for naive prompting, latent intervention and overprompting (paper Fig. 6).

    As published, the value of a protocol is the maximum over its queries; the dashed line is the mean over seeds of the
    same maximum over random directions of equal length. The level is that of `progress.choose_level`.
    """
    panels = [name for name in PANELS if name in ds["protocol"].values]
    return seed_panels(ds, _level(ds), _held_out(ds), panels, "capability")


def seed_panels(ds: xr.Dataset, level: analysis.Level, klass: int, panels: list[str], kind: str) -> Figure:
    """Draw P(class asked for) of every seed of a level, one panel a protocol; `kind` is one of `capability.VARIABLES`.

    The dashed line is the mean over seeds of the same for random directions, if these have no panel of their own.
    """
    fig = style.new_figure(3.0 * len(panels) + 0.3, 2.7)
    axes = fig.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    steps = ds["step"].values
    for ax, name in zip(axes, panels, strict=True):
        for i, one in enumerate(_scores(ds, level, klass, name, kind)):
            ax.plot(steps, one, color=style.class_color(i), lw=1.2, label=f"seed {ds['seed'].values[level.runs[i]]}")
        if name + RANDOM in ds["protocol"].values and name + RANDOM not in panels:
            control = _scores(ds, level, klass, name + RANDOM, kind).mean(0)
            ax.plot(steps, control, color="#222222", lw=1.2, ls="--", label="random directions")
        ax.axhline(analysis.PAPER_THRESHOLD, color="#888888", lw=0.9, ls=":")
        ax.set_title(title_of(name))
        style.step_axis(ax)
    axes[0].set_ylim(-0.03, 1.03)
    axes[0].set_ylabel(f"P(class {style.class_label(ds, klass)})")
    axes[-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return fig


@style.styled()
def overview(ds: xr.Dataset) -> Figure:
    """Draw every protocol and its controls: capability over training, and the step at which it emerges in each seed.

    Left: mean over seeds with 95 % bootstrap intervals of the capability whose query is chosen on one half of the
    samples and scored on the other; controls are dashed. Right: a dot a seed; a cross at the edge is a seed in which
    the protocol never stays at 80 %; the grey line is the median turning point of the naive trajectories.
    """
    level, klass = _level(ds), _held_out(ds)
    names = list(map(str, ds["protocol"].values))
    colors = _colors(names)
    fig = style.new_figure(9.4, 3.6)
    left, right = fig.subplots(1, 2, width_ratios=(1.15, 1.0))
    for name in names:
        _draw_curve(left, ds, _scores(ds, level, klass, name, "capability_split"), name, colors)
    left.axhline(analysis.PAPER_THRESHOLD, color="#888888", lw=0.9, ls=":")
    left.set(ylim=(-0.03, 1.03), ylabel=f"P(class {style.class_label(ds, klass)})")
    style.step_axis(left)
    _draw_emergence(right, ds, level, klass, names, colors)
    return fig


def _base(name: str) -> str:
    return name.removesuffix(RANDOM).removesuffix(SHUFFLED)


def _colors(names: list[str]) -> dict[str, str]:
    bases = list(dict.fromkeys(map(_base, names)))
    return {name: "#222222" if name == NAIVE else style.class_color(bases.index(_base(name)) - 1) for name in names}


def _line(name: str) -> str:
    return "--" if name.endswith(RANDOM) else ":" if name.endswith(SHUFFLED) else "-"


def _draw_curve(ax: Axes, ds: xr.Dataset, scores: np.ndarray, name: str, colors: dict[str, str]) -> None:
    low, high = curves.bootstrap_interval(scores, "mean", resamples=500)
    is_control = _line(name) != "-"
    width = 1.1 if is_control else 1.8
    ax.plot(ds["step"].values, scores.mean(0), color=colors[name], ls=_line(name), lw=width)
    if not is_control:
        ax.fill_between(ds["step"].values, low, high, color=colors[name], alpha=0.15, lw=0)


def _draw_emergence(
    ax: Axes, ds: xr.Dataset, level: analysis.Level, klass: int, names: list[str], colors: dict[str, str]
) -> None:
    steps = ds["step"].values
    last = float(steps[-1])
    for row, name in enumerate(names):
        times = capability.emergence(steps, _scores(ds, level, klass, name, "capability_split"))
        learned = np.isfinite(times)
        ax.plot(times[learned], np.full(learned.sum(), row), "o", ms=5, color=colors[name], alpha=0.75, mew=0)
        never = int((~learned).sum())
        if never:
            ax.plot([last * 1.04], [row], "x", ms=5, color=colors[name], clip_on=False)
            ax.annotate(f"{never}", (last * 1.04, row), xytext=(6, 0), textcoords="offset points", va="center", size=7)
    turns = analysis.memorisation(ds, level, klass, NAIVE, analysis.default_sigma(ds))["per_seed"]["turning_step"]
    turn = curves.censored_median(np.array(turns, float))
    if np.isfinite(turn):
        ax.axvline(turn, color="#888888", lw=0.9)
        ax.annotate("turn", (turn, -0.6), xytext=(3, 0), textcoords="offset points", size=7, color="#666666")
    ax.set_yticks(range(len(names)), [title_of(name) for name in names])
    for label, name in zip(ax.get_yticklabels(), names, strict=True):
        label.set_color(colors[name])
    ax.set(ylim=(len(names) - 0.4, -0.9), xlim=(0, last * 1.04))
    ax.set_title("step to 80 % for good, a dot a seed (x: never)")
    style.step_axis(ax)


def guided(ds: xr.Dataset) -> bool:
    """Return whether the dataset holds guidance at several weights."""
    return "query_protocol" in ds.coords and "guidance" in ds["query_protocol"].values


@style.styled()
def fig16(ds: xr.Dataset) -> Figure:
    """Draw trajectories of the unseen class under classifier-free guidance, coloured by its weight (paper Fig. 16).

    Mean over seeds, smoothed as Fig. 4; up to three levels: weakest, middle, strongest.
    """
    found = [level for level in analysis.levels(ds) if level.runs]
    shown = [found[i] for i in sorted({0, len(found) // 2, len(found) - 1})]
    klass = _held_out(ds)
    rows = np.flatnonzero(ds["query_protocol"].values == "guidance")
    fig = style.new_figure(3.1 * len(shown) + 1.0, 3.2)
    axes = fig.subplots(1, len(shown), squeeze=False)[0]
    shades = matplotlib.colormaps[style.SIGNAL_MAP](np.linspace(0.0, 0.9, len(rows)))
    for ax, level in zip(axes, shown, strict=True):
        concept_square(ax, ds, (0, 1))
        for row, color in zip(rows, shades, strict=True):
            chosen = ds["query_prob"].isel(run=list(level.runs), query=int(row), klass=klass).mean("run")
            path = curves.smooth(chosen.transpose("step", "concept").values, analysis.default_sigma(ds))
            draw_path(ax, path[:, :2], color, f"w = {ds['query_value'].values[row]}")
        ax.set_title(level.label)
    axes[-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return fig

"""Figs. 6, 16, 17 and all protocols with their controls: what a model can draw against what it draws when asked.

Every figure has one row a held-out class.
"""

import dataclasses
from typing import Any

import matplotlib
import numpy as np
import xarray as xr
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase

from cspace_jax.analysis import capability, curves, reasons, stability
from cspace_jax.analysis.learning import (
    battery_field,
    default_sigma,
    definition_of,
    memorisation,
    samples_of,
    whole,
)
from cspace_jax.analysis.levels import Level, levels, unseen
from cspace_jax.config.definitions import THRESHOLD
from cspace_jax.config.protocol_names import (
    GUIDANCE,
    LATENT,
    LATENT_SHARED,
    NAIVE,
    OVERPROMPT,
    PATCH,
    RANDOM,
    REPEATED,
    SHUFFLED,
    control_of,
    controlled,
)
from cspace_jax.plots import progress, style
from cspace_jax.plots.registry import Samples, figure
from cspace_jax.plots.trajectories import concept_square, draw_path

PANELS = (NAIVE, LATENT, LATENT_SHARED, OVERPROMPT)  # in the order of the paper's Fig. 6
FIG10 = (NAIVE, OVERPROMPT, OVERPROMPT + RANDOM, LATENT, LATENT + RANDOM)  # the paper's Fig. 10 has two
TITLES = {
    NAIVE: "naive prompting",
    LATENT: "latent intervention",
    LATENT_SHARED: "shared latent intervention",
    OVERPROMPT: "overprompting",
    PATCH: "patching",
    REPEATED: "naive, repeated",
}
MOST_SEEDS = 20  # drawn as a line each
_TIMES = ("reach", "naive", "patch")  # of `stability.seeds`
WEIGHT_WORDS = {0.0: " (no prompt)", 1.0: " (no guidance)"}


def title_of(protocol: str) -> str:
    """Return a protocol's name as printed in figures."""
    for suffix, word in ((RANDOM, "random"), (SHUFFLED, "shuffled")):
        if protocol.endswith(suffix):
            return f"{title_of(protocol.removesuffix(suffix))}, {word}"
    return " + ".join(TITLES.get(part, part.replace("_", " ")) for part in protocol.split("+"))


def _level(ds: xr.Dataset) -> Level:
    found = levels(ds)
    return found[progress.choose_level(found, ds, NAIVE)]


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of panels: the class and the score that it shows.

    Attributes:
      klass: index of the class asked for.
      kind: one of `capability.VARIABLES`, or `capability.CONCEPT` with a concept.
      concept: index of the concept that is shown alone.
    """

    klass: int
    kind: str
    concept: int | None = None

    def scores(self, ds: xr.Dataset, level: Level, protocol: str) -> Float[np.ndarray, "r t"]:
        """Return the curves [r, t] of a level's seeds under a protocol."""
        chosen = ds[self.kind].sel(protocol=protocol).isel(run=list(level.runs), klass=self.klass)
        chosen = chosen if self.concept is None else chosen.isel(concept=self.concept)
        return chosen.transpose("run", "step").values

    def known(self, ds: xr.Dataset, level: Level, protocol: str) -> Float[np.ndarray, "r t"]:
        """Return the curves [r, t] of the seeds that have no broken query.

        Means, bands and counts are of these.
        """
        found = self.scores(ds, level, protocol)
        return found[whole(found)]

    def label(self, ds: xr.Dataset) -> str:
        """Return the label of the y axis."""
        if self.concept is None:
            return f"P(class {style.class_label(ds, self.klass)})"
        name = str(ds["concept"].values[self.concept])
        return f"P({style.bit_label(ds, name, int(ds['bit'].values[self.klass, self.concept]))})"


@figure("fig6", paper="Fig. 6", needs=(reasons.further_protocols,))
@style.styled()
def fig6(ds: xr.Dataset) -> Figure:
    """Draw P(class asked for) of every seed for naive prompting, latent intervention and overprompting (paper Fig. 6).

    As published, the value of a protocol is the maximum over its queries; the dashed line is the mean over seeds of the
    same maximum over random directions of equal length. The level is that of `progress.choose_level`.
    """
    panels = [name for name in PANELS if name in ds["protocol"].values]
    rows = _rows(ds, "capability")
    fig = style.new_figure(*panel_size(rows, panels))
    seed_panels(fig, ds, _level(ds), rows, panels)
    return fig


def _rows(ds: xr.Dataset, kind: str) -> list[Row]:
    return [Row(klass, kind) for klass in unseen(ds)]


def seed_panels(fig: FigureBase, ds: xr.Dataset, level: Level, rows: list[Row], panels: list[str]) -> None:
    """Draw every seed of a level into a figure or a part of one, a column a protocol.

    The dashed line is the mean over seeds of the same for random directions, if these have no panel of their own.
    """
    axes = _seeds(fig, ds, level, rows, panels)
    for (row, column), ax in np.ndenumerate(axes):
        control = panels[column] + RANDOM
        if control in ds["protocol"].values and control not in panels:
            known = rows[row].known(ds, level, control)
            if len(known):
                ax.plot(ds["step"].values, known.mean(0), color="#222222", lw=1.2, ls="--", label="random directions")
    axes[0, -1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def _asked_patch(ds: xr.Dataset, samples: Samples) -> str:
    return "" if stability.asked_patch(ds) else "patch was not among the protocols (elicit.protocols)"


@figure("fig17", paper="Fig. 17", needs=(_asked_patch,))
@style.styled()
def fig17(ds: xr.Dataset) -> Figure:
    """Draw P(class asked for) with the network's own and with patched conditioning projections (paper Fig. 17).

    A thin line a seed; the thick line is the mean of those without a broken query. The level is that of
    `progress.choose_level`. Below, a table a held-out class says which seeds learn stably (`analysis.stability`) and
    when each way reaches 80 % for good.
    """
    panels, level, rows = [NAIVE, PATCH], _level(ds), _rows(ds, "capability")
    width, height = panel_size(rows, panels)
    many = len(level.runs) > MOST_SEEDS
    lines = (2 + (len(stability.KINDS) if many else len(level.runs))) * len(rows)
    fig = style.new_figure(width, height + 0.2 * lines)
    above, below = np.ravel(fig.subfigures(2, 1, squeeze=False, height_ratios=(height, 0.2 * lines)))
    axes = _seeds(above, ds, level, rows, panels)
    for row, ax in zip(rows, np.ravel(below.subplots(len(rows), 1, squeeze=False)), strict=True):
        _draw_stability(ax, ds, level, row.klass)
    for (row, column), ax in np.ndenumerate(axes):
        known = rows[row].known(ds, level, panels[column])
        if not many and len(known):
            ax.plot(ds["step"].values, known.mean(0), color="#222222", lw=2.2, label="mean")
    for ax, title in zip(axes[0], ("(a) no intervention", f"(b) patched from {_source(ds)}"), strict=True):
        ax.set_title(title)
    axes[0, -1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return fig


def _draw_stability(ax: Axes, ds: xr.Dataset, level: Level, klass: int) -> None:
    """Draw the table of stable and unstable seeds of a held-out class; of many seeds, medians of each kind."""
    found = stability.seeds(ds, level, klass)
    ax.set_axis_off()
    if not found:
        words = f"class {ds['klass'].values[klass]}: every seed has a broken query"
        ax.text(0.5, 0.5, words, ha="center", va="center", size=8, transform=ax.transAxes)
        return
    head = [
        "seed",
        f"naive prompting of {ds['klass'].values[klass]}",
        "first at 80 %",
        "stays at 80 %",
        "patching stays",
    ]
    rows = [[str(one["seed"]), one["kind"], *(one[name] for name in _TIMES)] for one in found]
    if len(found) > MOST_SEEDS:
        head[0], head[2] = "seeds", "first at 80 %, median"
        kinds = {one["kind"]: [other for other in found if other["kind"] == one["kind"]] for one in found}
        rows = [[str(len(same)), name, *_medians(same)] for name, same in sorted(kinds.items())]
    rows = [[*row[:2], *(f"{t:,.0f}" if np.isfinite(t) else "never" for t in row[2:])] for row in rows]
    table = ax.table(rows, colLabels=head, loc="center", cellLoc="center", edges="horizontal",
                     colWidths=[0.1, 0.3, 0.2, 0.2, 0.2])  # fmt: skip
    table.auto_set_font_size(False)
    table.set_fontsize(8)
    for cell in table.get_celld().values():
        cell.set_edgecolor("#CCCCCC")


def _medians(found: list[dict[str, Any]]) -> list[float]:
    """Return the median of each time over seeds; "never" is later than any."""
    return [float(np.median(np.nan_to_num([one[name] for one in found], nan=np.inf))) for name in _TIMES]


def _source(ds: xr.Dataset) -> str:
    step = battery_field(ds, PATCH, "patch_step")
    return f"step {step:,}" if step else "the last checkpoint"


def panel_size(rows: list[Row], panels: list[str]) -> tuple[float, float]:
    """Return the width and the height of panels of seeds, in inches."""
    return 3.0 * len(panels) + 1.5, 2.3 * len(rows) + 0.5


def _seeds(fig: FigureBase, ds: xr.Dataset, level: Level, rows: list[Row], panels: list[str]) -> np.ndarray:
    """Draw the scores of rows over training, a line a seed, and return the axes [row, protocol]."""
    axes = fig.subplots(len(rows), len(panels), sharex=True, sharey=True, squeeze=False)
    for (row, column), ax in np.ndenumerate(axes):
        _draw_seeds(ax, ds, level, rows[row].scores(ds, level, panels[column]))
        ax.axhline(THRESHOLD, color="#888888", lw=0.9, ls=":")
        if row == 0:
            ax.set_title(title_of(panels[column]))
        if row == len(rows) - 1:
            style.step_axis(ax)
        if column == 0:
            ax.set_ylabel(rows[row].label(ds))
    axes[0, 0].set_ylim(-0.03, 1.03)
    return axes


def _draw_seeds(ax: Axes, ds: xr.Dataset, level: Level, scores: Float[np.ndarray, "r t"]) -> None:
    """Draw the curves [r, t] of seeds, a line a seed.

    Of more than `MOST_SEEDS` draw the mean, with the band that holds the middle 90 % of them.
    """
    steps = ds["step"].values
    if len(scores) <= MOST_SEEDS:
        for i, one in enumerate(scores):
            label = f"seed {ds['seed'].values[level.runs[i]]}"
            ax.plot(steps, one, color=style.class_color(i), lw=1.2, label=label)
        return
    scores, color = scores[whole(scores)], style.class_color(0)
    if not len(scores):
        return
    ax.fill_between(steps, *np.quantile(scores, (0.05, 0.95), axis=0), color=color, alpha=0.2, lw=0,
                    label=f"90 % of {len(scores)} seeds")  # fmt: skip
    ax.plot(steps, scores.mean(0), color=color, lw=1.6, label="mean over seeds")


@figure("elicitation", needs=(reasons.further_protocols,))
@style.styled()
def overview(ds: xr.Dataset) -> Figure:
    """Draw every protocol and its controls: capability over training, and the step at which it emerges in each seed.

    Left: mean over seeds with 95 % intervals (3 seeds and more) of the capability whose query is chosen on one half of
    the samples and scored on the other; controls are dashed. Right: a dot a seed; a cross at the edge is a seed in
    which the protocol never stays at 80 %. Seeds with a broken query are left out, also of n. The grey line is the
    median turning point of the naive trajectories.
    """
    level, rows = _level(ds), _rows(ds, "capability_split")
    names = list(map(str, ds["protocol"].values))
    colors = colors_of(names)
    fig = style.new_figure(9.4, max(2.4, 0.6 + 0.3 * len(names)) * len(rows) + 0.3)
    axes = fig.subplots(len(rows), 2, width_ratios=(1.15, 1.0), squeeze=False)
    for row, (left, right) in zip(rows, axes, strict=True):
        for name in names:
            _draw_curve(left, ds, row.known(ds, level, name), name, colors)
        left.axhline(THRESHOLD, color="#888888", lw=0.9, ls=":")
        left.set(ylim=(-0.03, 1.03), ylabel=row.label(ds))
        style.step_axis(left)
        _draw_emergence(right, ds, level, row, names, colors)
    axes[0, 0].set_title(style.band_words(len(row.known(ds, level, name)) for row in rows for name in names))
    axes[0, 1].set_title(f"emergence ({definition_of(ds)}), a dot a seed (x: never)")
    return fig


def colors_of(names: list[str]) -> dict[str, str]:
    """Return the colour of each protocol.

    A control has the colour of the protocol that it controls; naive prompting is black.
    """
    bases = list(dict.fromkeys(map(controlled, names)))
    return {
        name: "#222222" if name == NAIVE else style.class_color(bases.index(controlled(name)) - 1) for name in names
    }


def line_of(name: str) -> str:
    """Return a protocol's line style: random directions are dashed, exchanged ones dotted."""
    return {RANDOM: "--", SHUFFLED: ":"}.get(control_of(name), "-")


def _draw_curve(ax: Axes, ds: xr.Dataset, scores: Float[np.ndarray, "r t"], name: str, colors: dict[str, str]) -> None:
    if not len(scores):
        return
    is_control = line_of(name) != "-"
    width = 1.1 if is_control else 1.8
    ax.plot(ds["step"].values, scores.mean(0), color=colors[name], ls=line_of(name), lw=width)
    if not is_control:
        style.draw_band(ax, ds["step"].values, scores, samples_of(ds, battery=True), colors[name])


def _draw_emergence(ax: Axes, ds: xr.Dataset, level: Level, row: Row, names: list[str], colors: dict[str, str]) -> None:
    steps = ds["step"].values
    last = float(steps[-1])
    for line, name in enumerate(names):
        times = capability.emergence(steps, row.known(ds, level, name), definition_of(ds))
        learned = np.isfinite(times)
        ax.plot(times[learned], np.full(learned.sum(), line), "o", ms=5, color=colors[name], alpha=0.75, mew=0)
        never = int((~learned).sum())
        if never:
            ax.plot([last * 1.04], [line], "x", ms=5, color=colors[name], clip_on=False)
            ax.annotate(f"{never}", (last * 1.04, line), xytext=(6, 0), textcoords="offset points", va="center", size=7)
    turns = memorisation(ds, level, row.klass, NAIVE, default_sigma(ds))["per_seed"]["turning_step"]
    turned = np.array([step for step in turns if step is not None and np.isfinite(step)], float)
    if turned.size:  # a seed that was never held back has no turn; it does not turn late
        turn = float(np.median(turned))
        ax.axvline(turn, color="#888888", lw=0.9)
        words = f"turn ({turned.size} of {len(turns)} seeds)"
        ax.annotate(words, (turn, -0.6), xytext=(3, 0), textcoords="offset points", size=7, color="#666666")
    ax.set_yticks(range(len(names)), [title_of(name) for name in names])
    for label, name in zip(ax.get_yticklabels(), names, strict=True):
        label.set_color(colors[name])
    ax.set(ylim=(len(names) - 0.4, -0.9), xlim=(0, last * 1.04))
    style.step_axis(ax)


def guided(ds: xr.Dataset) -> bool:
    """Return whether the dataset holds guidance at several weights."""
    return "query_protocol" in ds.coords and GUIDANCE in ds["query_protocol"].values


def _asked_guidance(ds: xr.Dataset, samples: Samples) -> str:
    return "" if guided(ds) else "guidance was not among the protocols (elicit.protocols)"


@figure("fig16", paper="Fig. 16", needs=(_asked_guidance,))
@style.styled()
def fig16(ds: xr.Dataset) -> Figure:
    """Draw trajectories of unseen classes under classifier-free guidance, coloured by its weight (paper Fig. 16).

    Mean over seeds, smoothed as Fig. 4; up to three levels: weakest, middle, strongest.
    """
    found = [level for level in levels(ds) if level.runs]
    shown = [found[i] for i in sorted({0, len(found) // 2, len(found) - 1})]
    classes = unseen(ds)
    rows = np.flatnonzero(ds["query_protocol"].values == GUIDANCE)
    fig = style.new_figure(3.1 * len(shown) + 1.0, 3.0 * len(classes) + 0.3)
    axes = fig.subplots(len(classes), len(shown), squeeze=False)
    weights = [float(value) for value in ds["query_value"].values[rows]]
    colors = _weight_colors(weights)
    for klass, line in zip(classes, axes, strict=True):
        for ax, level in zip(line, shown, strict=True):
            concept_square(ax, ds, (0, 1))
            for row, weight, color in zip(rows, weights, colors, strict=True):
                chosen = ds["query_prob"].isel(run=list(level.runs), query=int(row), klass=klass).mean("run")
                path = curves.smooth(chosen.transpose("step", "concept").values, default_sigma(ds))
                draw_path(ax, path[:, :2], color, f"{weight:g}{WEIGHT_WORDS.get(weight, '')}")
            where = f", {level.label}" if level.varying else ""
            ax.set_title(style.class_label(ds, klass) + where, fontsize=9)
    axes[0, -1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), title="guidance weight")
    return fig


def _weight_colors(weights: list[float]) -> list[Any]:
    """Return a colour a weight: grey without the prompt (0), black without guidance (1), a scale for all others."""
    special = {0.0: "#9A9A9A", 1.0: "#222222"}
    others = [weight for weight in weights if weight not in special]
    shades = matplotlib.colormaps["plasma"](np.linspace(0.05, 0.88, len(others)))
    return [special[weight] if weight in special else shades[others.index(weight)] for weight in weights]

"""How embeddings of concepts move apart inside the blocks of a network over training."""

import matplotlib
import numpy as np
import xarray as xr
from jaxtyping import Float, Real
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cspace_jax.analysis import reasons
from cspace_jax.analysis.levels import levels, unseen
from cspace_jax.plots import progress, style
from cspace_jax.plots.registry import figure


@figure("embeddings", needs=(reasons.embeddings,))
@style.styled()
def similarities(ds: xr.Dataset) -> Figure:
    """Draw cosines between embeddings over training, a line a block from the first (dark) to the last (bright).

    First the first concept's bit 1 (blue) against every other single concept, then each held-out class against its own
    embedding at the last checkpoint. Mean over the seeds of the level of `progress.choose_level`.
    """
    found = levels(ds)
    level = found[progress.choose_level(found, ds, str(ds["protocol"].values[0]))]
    rows = curves_by_panel(ds[["embedding_cosine", "embedding_to_last"]].isel(run=list(level.runs)).mean("run"))
    columns = max(map(len, rows))
    fig = style.new_figure(2.4 * columns + 1.6, 2.1 * len(rows) + 0.5)
    axes = fig.subplots(len(rows), columns, sharey=True, squeeze=False)
    for line, panels in zip(axes, rows, strict=True):
        for ax, (title, values) in zip(line, panels.items(), strict=False):
            _draw(ax, ds["step"].values, values, list(map(str, ds["block"].values)))
            ax.set_title(title, fontsize=8.5)
            style.step_axis(ax)
        line[0].set_ylabel("cosine")
        for ax in line[len(panels) :]:
            ax.set_axis_off()
    axes[0, -1].legend(*axes[0, 0].get_legend_handles_labels(), loc="upper left", bbox_to_anchor=(1, 1), fontsize=6.5)
    return fig


def curves_by_panel(mean: xr.Dataset) -> list[dict[str, Float[np.ndarray, "t block"]]]:
    """Return the curves [t, block] of each panel by its title; a single held-out class joins the first row."""
    cosine = mean["embedding_cosine"].transpose("vector", "other", "step", "block")
    words = list(map(str, cosine["vector"].values))
    blue = words[1]
    first = {f"{blue} and {word}": cosine.sel(vector=blue, other=word).values for word in words if word != blue}
    to_last = mean["embedding_to_last"].transpose("klass", "step", "block").values
    held_out = unseen(mean)
    second = {f"class {mean['klass'].values[k]}, to the last step": to_last[k] for k in held_out}
    return [first | second] if len(second) == 1 else [first, second]


def _draw(ax: Axes, steps: Real[np.ndarray, " t"], values: Float[np.ndarray, "t block"], blocks: list[str]) -> None:
    shades = matplotlib.colormaps[style.SIGNAL_MAP](np.linspace(0.0, 0.9, len(blocks)))
    for curve, color, name in zip(values.T, shades, blocks, strict=True):
        ax.plot(steps, curve, color=color, lw=1.2, label=name.replace("_block_", " ").replace("_", " "))
    ax.axhline(0.0, color="#888888", lw=0.9, ls=":")

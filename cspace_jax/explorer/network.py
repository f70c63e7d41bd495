"""Charts of the network: losses, and how embeddings of concepts move apart in its blocks."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.colors import to_hex

from cspace_jax.analysis import intervals, reasons
from cspace_jax.analysis.levels import levels
from cspace_jax.explorer.charts import Chart, band, chart, level_looks, line, listed, number, panels
from cspace_jax.plots import embeddings, progress, style
from cspace_jax.text import counted

LOSS = "diffusion"  # the term that depends on the network at every noise schedule
SPLITS = {"validation": "validation (seen classes)", "test": "test (unseen classes)"}


@chart("losses", "Losses")
def losses(ds: xr.Dataset, summary: Mapping[str, Any]) -> Chart:
    """Draw the diffusion term of the loss on images of seen and of unseen classes, a line a level."""
    steps = ds["step"].values
    found = [level for level in levels(ds) if level.runs]
    splits = list(map(str, ds["split"].values))
    fig = panels(1, len(splits), [SPLITS.get(name, name) for name in splits])
    rows, ends = [], []
    for level, (color, dash) in zip(found, level_looks(ds, found), strict=True):
        chosen = ds["loss"].sel(term=LOSS).isel(run=list(level.runs)).transpose("split", "run", "step").values
        for i, (split, values) in enumerate(zip(splits, chosen, strict=True)):
            low, high = intervals.mean_interval(values)
            band(fig, (1, i + 1), steps, (low, high), level.label, color, values)
            line(fig, (1, i + 1), steps, values.mean(axis=0), level.label, color, dash, legend=i == 0)
            label = {"level": level.label, "split": split, "term": LOSS}
            numbers = {"step": steps, "mean": values.mean(axis=0), "low": low, "high": high, "n": len(values)}
            rows.append(pd.DataFrame({**label, **numbers}))
            ends.append(f"{level.label}, {split}: {number(values.mean(axis=0)[-1])}")
    fig.update_xaxes(title_text="training step")
    fig.update_yaxes(type="log")
    fig.update_yaxes(title_text="diffusion loss [bits/dim]", row=1, col=1)
    fig.update_layout(height=380)
    words = f"Diffusion loss over training, {style.band_words(len(one.runs) for one in found)}"
    return Chart(fig, pd.concat(rows), f"{words}. At the last save: {listed(ends)}.")


@chart("embeddings", "Embeddings", reasons.embeddings)
def similarities(ds: xr.Dataset, summary: Mapping[str, Any]) -> Chart:
    """Draw cosines between embeddings of concepts over training, a line a block, at one level; mean over its seeds."""
    found = levels(ds)
    level = found[progress.choose_level(found, ds, str(ds["protocol"].values[0]))]
    shown = embeddings.curves_by_panel(
        ds[["embedding_cosine", "embedding_to_last"]].isel(run=list(level.runs)).mean("run")
    )
    titles = {title: values for row in shown for title, values in row.items()}
    blocks = [name.replace("_block_", " ").replace("_", " ") for name in map(str, ds["block"].values)]
    columns = min(4, len(titles))
    lines = -(-len(titles) // columns)
    fig = panels(lines, columns, list(titles))
    colors = [to_hex(color) for color in style.shades(len(blocks))]
    rows, ends = [], []
    for i, (title, values) in enumerate(titles.items()):
        place = i // columns + 1, i % columns + 1
        for curve, block, color in zip(values.T, blocks, colors, strict=True):
            line(fig, place, ds["step"].values, curve, block, color, legend=i == 0)
            label = {"level": level.label, "pair": title, "block": block}
            rows.append(pd.DataFrame({**label, "step": ds["step"].values, "cosine": curve}))
        ends.append(f"{title}: {number(float(np.mean(values[-1])))}")
    fig.update_xaxes(title_text="training step", row=lines)
    fig.update_yaxes(range=[-1.05, 1.05])
    words = f"Cosines between embeddings at {level.label}, mean of {counted(len(level.runs), 'seed')}, a line a block. "
    return Chart(fig, pd.concat(rows), f"{words}Mean over blocks at the last save: {listed(ends)}.")

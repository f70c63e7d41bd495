"""Chart of protocols: what each elicits over training, against naive prompting and its controls."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from cspace_jax.analysis import intervals
from cspace_jax.analysis.learning import PAPER_THRESHOLD, samples_of
from cspace_jax.analysis.levels import Level, levels
from cspace_jax.config.names import is_control
from cspace_jax.explorer.charts import PANEL_HEIGHT, Chart, band, chart, line, listed, number, panels, rule
from cspace_jax.plots import elicitation, style

MOST_LEVELS = 4  # panels beside each other


def asked(ds: xr.Dataset, summary: Mapping[str, Any]) -> str:
    """Need a battery of protocols."""
    return "" if "capability_split" in ds else "no protocols besides naive prompting were asked (elicit.protocols)"


def shown_levels(ds: xr.Dataset) -> list[Level]:
    """Return the levels with live runs, evenly chosen with both ends where there are many."""
    found = [level for level in levels(ds) if level.runs]
    chosen = np.unique(np.linspace(0, len(found) - 1, min(MOST_LEVELS, len(found))).round().astype(int))
    return [found[i] for i in chosen]


@chart("protocols", "Protocols", asked)
def protocols(ds: xr.Dataset, summary: Mapping[str, Any]) -> Chart:
    """Draw P(class asked for) under every protocol over training: mean over seeds with its 95 % interval.

    The query is chosen on one half of the samples and scored on the other; naive prompting is asked once.
    """
    steps, found = ds["step"].values, shown_levels(ds)
    held_out, names = np.flatnonzero(~ds["trained"].values).tolist(), list(map(str, ds["protocol"].values))
    titles = [f"{ds['klass'].values[k]}, {level.label}" for k in held_out for level in found]
    fig = panels(len(held_out), len(found), titles)
    colors = elicitation.colors_of(names)
    rows, ends = [], []
    for (r, klass), (c, level) in ((a, b) for a in enumerate(held_out) for b in enumerate(found)):
        for name in names:
            scores = elicitation.Row(klass, "capability_split").scores(ds, level, name)
            mean = scores.mean(axis=0)
            low, high = intervals.share_interval(scores, samples_of(ds, battery=True))
            title, place = elicitation.title_of(name), (r + 1, c + 1)
            if not is_control(name):
                band(fig, place, steps, (low, high), title, colors[name])
                ends.append(f"class {ds['klass'].values[klass]}, {level.label}, {title}: {number(mean[-1])}")
            line(fig, place, steps, mean, title, colors[name], _dash(name), legend=r == c == 0)
            label = {"level": level.label, "class": str(ds["klass"].values[klass]), "protocol": name}
            rows.append(
                pd.DataFrame({**label, "step": steps, "mean": mean, "low": low, "high": high, "n": len(scores)})
            )
        rule(fig, (r + 1, c + 1), PAPER_THRESHOLD)
    fig.update_yaxes(range=[-0.03, 1.03])
    for r, klass in enumerate(held_out, 1):
        fig.update_yaxes(title_text=f"P(class {ds['klass'].values[klass]})", row=r, col=1)
    fig.update_xaxes(title_text="training step", row=len(held_out))
    fig.update_layout(height=PANEL_HEIGHT * len(held_out) + 190 + 5 * len(names), margin={"b": 130})
    words = f"P(class asked for) under each protocol over training, {style.band_words(len(one.runs) for one in found)}"
    return Chart(fig, pd.concat(rows), f"{words}. Controls are dashed or dotted. At the last save: {listed(ends)}.")


def _dash(name: str) -> str:
    return {"--": "dash", ":": "dot"}.get(elicitation.line_of(name), "solid")

"""Chart of protocols: what each elicits over training, against naive prompting and its controls."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from cspace_jax.analysis import intervals, reasons
from cspace_jax.analysis.learning import samples_of
from cspace_jax.analysis.levels import Level, levels, unseen
from cspace_jax.config.definitions import THRESHOLD
from cspace_jax.config.protocol_names import is_control
from cspace_jax.explorer.charts import PANEL_HEIGHT, Chart, band, chart, line, listed, number, panels, rule
from cspace_jax.plots import elicitation, style

MOST_LEVELS = 4  # panels beside each other


def shown_levels(found: list[Level]) -> list[Level]:
    """Return the levels that are drawn, evenly chosen with both ends where there are many."""
    chosen = np.unique(np.linspace(0, len(found) - 1, min(MOST_LEVELS, len(found))).round().astype(int))
    return [found[i] for i in chosen]


def _scores(ds: xr.Dataset, level: Level, klass: int, name: str) -> dict[str, Any]:
    """Return P(class asked for) under a protocol, of the seeds without a broken query.

    "seeds" are their curves [r, t]; "mean", "low" and "high" are [t], with the 95 % interval over seeds, and unknown
    (NaN) where no seed is left.
    """
    scores = elicitation.Row(klass, "capability_split").known(ds, level, name)
    low, high = intervals.share_interval(scores, samples_of(ds, battery=True))
    mean = scores.mean(axis=0) if len(scores) else np.full(scores.shape[1:], np.nan)
    return {"seeds": scores, "mean": mean, "low": low, "high": high}


def _numbers(ds: xr.Dataset, found: list[Level], held_out: list[int], names: list[str]) -> pd.DataFrame:
    """Return the table of all levels, also of those that are not drawn."""
    rows = []
    for klass, level, name in itertools.product(held_out, found, names):
        one = _scores(ds, level, klass, name)
        label = {"level": level.label, "class": str(ds["klass"].values[klass]), "protocol": name}
        numbers = {key: one[key] for key in ("mean", "low", "high")}
        rows.append(pd.DataFrame({**label, "step": ds["step"].values, **numbers, "n": len(one["seeds"])}))
    return pd.concat(rows)


@chart("protocols", "Protocols", reasons.further_protocols)
def protocols(ds: xr.Dataset, summary: Mapping[str, Any]) -> Chart:
    """Draw P(class asked for) under every protocol over training: mean over seeds with its 95 % interval.

    The query is chosen on one half of the samples and scored on the other; naive prompting is asked once.
    """
    steps, every = ds["step"].values, [level for level in levels(ds) if level.runs]
    found = shown_levels(every)
    held_out, names = unseen(ds), list(map(str, ds["protocol"].values))
    titles = [f"{ds['klass'].values[k]}, {level.label}" for k in held_out for level in found]
    fig = panels(len(held_out), len(found), titles)
    colors, ends, counts = elicitation.colors_of(names), [], []
    for (r, klass), (c, level) in itertools.product(enumerate(held_out), enumerate(found)):
        for name in names:
            one, title, place = _scores(ds, level, klass, name), elicitation.title_of(name), (r + 1, c + 1)
            counts.append(len(one["seeds"]))
            if not is_control(name):
                band(fig, place, steps, (one["low"], one["high"]), title, colors[name], one["seeds"])
                ends.append(f"class {ds['klass'].values[klass]}, {level.label}, {title}: {number(one['mean'][-1])}")
            line(fig, place, steps, one["mean"], title, colors[name], _dash(name), legend=r == c == 0)
        rule(fig, (r + 1, c + 1), THRESHOLD)
    _finish(fig, ds, held_out, names)
    words = f"P(class asked for) under each protocol over training, {style.band_words(counts)}"
    note = f"{len(found)} of {len(every)} levels are drawn; the numbers (CSV) hold all." if found != every else ""
    said = f"{words}. {note} ".rstrip() + f" Controls are dashed or dotted. At the last save: {listed(ends)}."
    return Chart(fig, _numbers(ds, every, held_out, names), said, note)


def _finish(fig: Any, ds: xr.Dataset, held_out: list[int], names: list[str]) -> None:
    fig.update_yaxes(range=[-0.03, 1.03])
    for r, klass in enumerate(held_out, 1):
        fig.update_yaxes(title_text=f"P(class {ds['klass'].values[klass]})", row=r, col=1)
    fig.update_xaxes(title_text="training step", row=len(held_out))
    fig.update_layout(height=PANEL_HEIGHT * len(held_out) + 190 + 5 * len(names), margin={"b": 130})


def _dash(name: str) -> str:
    return {"--": "dash", ":": "dot"}.get(elicitation.line_of(name), "solid")

"""Charts of learning: coordinates of every class over training, and how fast each concept is learned."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from cspace_jax.analysis import intervals, reasons, tables
from cspace_jax.analysis.learning import samples_of
from cspace_jax.analysis.levels import levels, unseen
from cspace_jax.explorer.charts import (
    Chart,
    band,
    chart,
    level_looks,
    line,
    listed,
    number,
    panels,
    rule,
)
from cspace_jax.plots import speeds, style

SYMBOLS = ("circle", "diamond", "square", "triangle-down", "triangle-up")


@chart("curves", "Learning curves")
def learning_curves(ds: xr.Dataset, summary: Mapping[str, Any]) -> Chart:
    """Draw the coordinates of every class over training, a line a level: mean over seeds with its 95 % interval."""
    steps, protocol = ds["step"].values, str(ds["protocol"].values[0])
    found = [level for level in levels(ds) if level.runs]
    names, classes = list(map(str, ds["concept"].values)), range(ds.sizes["klass"])
    fig = panels(len(names), len(classes), [style.class_label(ds, k) for k in classes])
    rows, ends = [], []
    for level, (color, dash) in zip(found, level_looks(ds, found), strict=True):
        chosen = ds["prob"].sel(protocol=protocol).isel(run=list(level.runs))
        values = chosen.transpose("run", "concept", "klass", "step").values
        for c, k in np.ndindex(values.shape[1:3]):
            mean, one = values[:, c, k].mean(axis=0), values[:, c, k]
            low, high = intervals.share_interval(one, samples_of(ds))
            place = c + 1, k + 1
            band(fig, place, steps, (low, high), level.label, color, one)
            line(fig, place, steps, mean, level.label, color, dash, legend=c == k == 0)
            label = {"level": level.label, "class": str(ds["klass"].values[k]), "concept": names[c]}
            rows.append(pd.DataFrame({**label, "step": steps, "mean": mean, "low": low, "high": high, "n": len(one)}))
            if not ds["trained"].values[k]:
                ends.append(f"{style.class_label(ds, k)}, {level.label}, {names[c]}: {number(mean[-1])}")
    _finish_curves(fig, ds, names)
    words = f"{style.band_words(len(level.runs) for level in found)}. At the last save, unseen classes: {listed(ends)}."
    return Chart(fig, pd.concat(rows), f"Coordinates of {len(classes)} classes over training, {words}")


def _finish_curves(fig: Any, ds: xr.Dataset, names: list[str]) -> None:
    for c, name in enumerate(names, 1):
        fig.update_yaxes(title_text=style.probability_label(ds, name), range=[-0.03, 1.03], row=c, col=1)
        for k, bit in enumerate(ds["bit"].values[:, c - 1], 1):
            rule(fig, (c, k), float(bit))
    fig.update_xaxes(title_text="training step", row=len(names))


@chart("speeds", "Speed against signal", reasons.signal)
def learning_speeds(ds: xr.Dataset, summary: Mapping[str, Any]) -> Chart:
    """Draw learning speed (1,000 / median steps) against the measured signal of each concept, with intervals."""
    names = [str(ds["concept"].values[c]) for c in reasons.known_signals(ds)]
    definition = summary["learned"]
    held_out = ds["klass"].values[unseen(ds)].astype(str).tolist()
    places = ["seen", *held_out]
    rows = [
        row | {"level": level.label, "signal": block["signal"][row["concept"]]}
        for level, block in zip(levels(ds), summary["levels"], strict=True)
        for row in tables.learning_times({"levels": [block]}).reset_index().to_dict("records")
        if row["definition"] == definition and row["concept"] in names and row["klass"] in places
    ]
    fig = panels(1, len(names), list(map(style.concept_title, names)), shared_xaxes=False)
    for i, klass in enumerate(places):
        for column, concept in enumerate(names, 1):
            own = [row for row in rows if (row["klass"], row["concept"]) == (klass, concept)]
            _draw_speeds(fig, column, sorted(own, key=lambda row: row["signal"]), klass, i)
    for column in range(1, len(names) + 1):
        fig.update_xaxes(title_text="signal [pixel MSE]", rangemode="tozero", row=1, col=column)
    fig.update_yaxes(title_text=f"speed ({definition}) [1 / 1,000 steps]", rangemode="tozero", row=1, col=1)
    times = [f"{row['concept']}, {row['klass']}, {_told(row)}" for row in rows]
    words = f"Median steps until a concept is learned ({definition}), by its signal: {listed(times)}."
    return Chart(fig, pd.DataFrame(rows), words)


def _draw_speeds(fig: Any, column: int, rows: list[dict[Any, Any]], klass: str, series: int) -> None:
    names = ("median", "low", "high")
    steps = {name: np.array([row[name] for row in rows], dtype=float) for name in names}
    speed = {name: np.nan_to_num(speeds.PER / steps[name]) for name in names}  # never, and an open end, are zero
    color = style.TRAINED_COLOR if klass == "seen" else style.class_color(series + 2)
    bars = {
        "type": "data", "symmetric": False, "thickness": 1, "color": color,
        "array": np.where(np.isfinite(steps["low"]), speed["low"] - speed["median"], 0.0),
        "arrayminus": np.where(np.isfinite(steps["low"]), speed["median"] - speed["high"], 0.0),
    }  # fmt: skip
    name = "seen classes" if klass == "seen" else f"unseen class {klass}"
    fig.add_scatter(
        x=[row["signal"] for row in rows], y=speed["median"], error_y=bars, mode="lines+markers",
        name=name, legendgroup=name, showlegend=column == 1, line={"color": color, "width": 1},
        marker={"color": color, "size": 9, "symbol": SYMBOLS[series % len(SYMBOLS)]},
        text=list(map(_told, rows)),
        hovertemplate=f"{name}<br>%{{text}}<extra></extra>", row=1, col=column,
    )  # fmt: skip


def _told(row: Mapping[Any, Any]) -> str:
    """Return a row of the table in words, such as "sep_col=0.2: 505 steps, 9 of 10 seeds"."""
    median = row["median"]
    steps = f"{median:,.0f} steps" if median is not None and np.isfinite(median) else "never"
    return f"{row['level']}: {steps}, {row['learned']} of {row['seeds']} seeds"

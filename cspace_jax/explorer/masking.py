"""Chart of underspecification: the unseen class against the share of images whose concept is hidden."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from cspace_jax.analysis import reasons
from cspace_jax.explorer.charts import Chart, chart, listed, number, panels
from cspace_jax.plots import style
from cspace_jax.plots.underspecification import CHANNEL_COLORS, percent

SHIFT = 0.015  # between the points of two concepts, so that their intervals can be told apart
SYMBOLS = ("circle", "square", "diamond")  # of the channels, whose colours alone not everyone can tell apart


class Look(NamedTuple):
    """How a line looks."""

    name: str
    color: str
    dash: str
    shift: float = 0.0
    symbol: str = "circle"


@chart("masking", "Underspecification", reasons.masked_fractions)
def underspecification(ds: xr.Dataset, summary: Mapping[str, Any]) -> Chart:
    """Draw the held-out class against the masked fraction.

    The panels show P of each concept at the last save, the steps until it is learned, and the mean colour. Pictures
    have no mean colour of an object, and so no panel of it.
    """
    found = summary["underspecification"]
    groups = found.get("groups", [found])
    titles = ["at the last save", f"steps until learned ({summary['learned']}; open: never)"]
    if any("redness" in group for group in groups):
        titles.append("mean colour of the object, last save")
    fig = panels(1, len(titles), titles, shared_xaxes=False, shared_yaxes=False, horizontal_spacing=0.09)
    rows, ends = [], []
    for i, group in enumerate(groups):
        where = f", {group['label']}" if len(groups) > 1 else ""
        dash = "solid" if i == 0 else "dash" if i == 1 else "dot"
        for j, concept in enumerate(group["levels"][0]["prob"]):
            prob = [level["prob"][concept] for level in group["levels"]]
            look = Look(f"{style.concept_title(concept)}{where}", style.OKABE_ITO[j % 8], dash, SHIFT * j)
            _mean_line(fig, 1, group, prob, look)
            times = [level["steps_to_80"][concept]["median"] for level in group["levels"]]
            _times(fig, group["levels"], concept, look, float(ds["step"][-1]))
            for level, one, median in zip(group["levels"], prob, times, strict=True):
                low, high = one["interval"]
                rows.append({"group": where[2:], "mask": level["mask"], "concept": concept, "mean": one["mean"],
                             "low": low, "high": high, "median_steps": median})  # fmt: skip
                ends.append(f"{concept} at {percent(level['mask'])}{where}: {number(one['mean'])}")
        colors = CHANNEL_COLORS.items() if "redness" in group else ()  # not of pictures
        for (channel, color), symbol in zip(colors, SYMBOLS, strict=False):
            values = [level["rgb"][channel] for level in group["levels"]]
            _mean_line(fig, 3, group, values, Look(f"{channel.upper()}{where}", color, dash, symbol=symbol))
    for column in range(1, len(titles) + 1):
        fig.update_xaxes(title_text="masked fraction", tickformat=".0%", row=1, col=column)
    fig.update_yaxes(title_text=f"P, class {found['held_out_class']}", range=[-0.03, 1.03], row=1, col=1)
    fig.update_layout(height=400)
    words = f"Class {found['held_out_class']} by the share of class {found['masked_class']} whose concept is hidden: "
    return Chart(fig, pd.DataFrame(rows), f"{words}{listed(ends)}.")


def _mean_line(fig: Any, column: int, group: Mapping[str, Any], values: list[Mapping[str, Any]], look: Look) -> None:
    ends = np.array([one["interval"] for one in values], dtype=float)
    means = np.array([one["mean"] for one in values], dtype=float)
    bars = {"type": "data", "symmetric": False, "thickness": 1, "array": np.nan_to_num(ends[:, 1] - means),
            "arrayminus": np.nan_to_num(means - ends[:, 0]), "color": look.color}  # fmt: skip
    _line(fig, column, [level["mask"] for level in group["levels"]], means, look, error_y=bars)


def _times(fig: Any, levels: list[Mapping[str, Any]], concept: str, look: Look, last: float) -> None:
    """Draw median steps with their intervals; where it is never, an open marker at the last step."""
    found = [level["steps_to_80"][concept] for level in levels]
    masks = np.array([level["mask"] for level in levels])
    medians, ends = (np.array([one[name] for one in found], dtype=float) for name in ("median", "interval"))
    tops = np.where(np.isfinite(ends[:, 0]) & np.isnan(ends[:, 1]), last, ends[:, 1])  # open: up to the last step
    bars = {"type": "data", "symmetric": False, "thickness": 1, "color": look.color,
            "array": np.nan_to_num(tops - medians),
            "arrayminus": np.nan_to_num(medians - ends[:, 0])}  # fmt: skip
    learned = np.isfinite(medians)
    _line(fig, 2, masks.tolist(), np.where(learned, medians, np.nan), look, legend=False, error_y=bars)
    if not learned.all():
        fig.add_scatter(
            x=masks[~learned] + look.shift, y=np.full(sum(~learned), last), customdata=masks[~learned],
            legendgroup=look.name, showlegend=False, mode="markers",
            marker={"color": look.color, "size": 9, "symbol": "circle-open"}, row=1, col=2,
            hovertemplate=f"{look.name}<br>%{{customdata:.0%}} masked: never within {last:,.0f} steps<extra></extra>",
        )  # fmt: skip


def _line(fig: Any, column: int, masks: list[float], values: Any, look: Look, legend: bool = True, **more: Any) -> None:
    fig.add_scatter(
        x=np.array(masks) + look.shift, y=np.array(values, dtype=float), customdata=masks, mode="lines+markers",
        name=look.name, legendgroup=look.name, showlegend=legend,
        line={"color": look.color, "dash": look.dash, "width": 2},
        marker={"color": look.color, "size": 8, "symbol": look.symbol},
        hovertemplate=f"{look.name}<br>%{{customdata:.0%}} masked: %{{y:,.2f}}<extra></extra>",
        row=1, col=column, **more,
    )  # fmt: skip

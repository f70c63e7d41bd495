"""The registry of charts: the tabs of a study's page, each a Plotly figure with its numbers and its words.

    @chart("spread", "Spread over seeds", needs=several_seeds)
    def spread(ds, summary):
        return Chart(figure=..., numbers=pandas.DataFrame(...), words="Spread over seeds: ...")

`ds` is the labelled dataset, `summary` what summary.json holds (unknown numbers are None).
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import xarray as xr
from jaxtyping import Float, Real
from matplotlib.colors import to_hex
from plotly.subplots import make_subplots

from cspace_jax.analysis.levels import Level
from cspace_jax.plots import style
from cspace_jax.registering import check_name

PANEL_HEIGHT = 230  # pixels
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")  # Plotly's words for `style.LINES`
MUTED = "#888888"


@dataclasses.dataclass(frozen=True)
class Chart:
    """A figure with its numbers and its words, for readers who cannot see it.

    Attributes:
      figure: Plotly's.
      numbers: its curves and intervals, a row a point of a curve; offered as CSV. Points of single seeds, which stand
        in for an interval of one or two, are in the dataset alone.
      words: its text alternative, some sentences.
      note: what it leaves out, shown above it; "" if nothing.
    """

    figure: go.Figure
    numbers: pd.DataFrame
    words: str
    note: str = ""


@dataclasses.dataclass(frozen=True)
class RegisteredChart:
    """A chart that pages can show.

    Attributes:
      title: of its tab.
      draw: from the labelled dataset and the summary to the chart.
      cannot: says why a study has no such chart, "" if it has.
    """

    title: str
    draw: Callable[[xr.Dataset, Mapping[str, Any]], Chart]
    cannot: Callable[[xr.Dataset, Mapping[str, Any]], str]


CHARTS: dict[str, RegisteredChart] = {}


def always(ds: xr.Dataset, summary: Mapping[str, Any]) -> str:
    """Need nothing."""
    return ""


def chart(
    name: str, title: str, needs: Callable[[xr.Dataset, Mapping[str, Any]], str] = always
) -> Callable[[Callable[..., Chart]], Callable[..., Chart]]:
    """Register (ds, summary) -> Chart as the tab `title`; `needs` says why a study has none, "" if it has.

    Raises:
      UserError: another function is the chart of this name.
    """

    def register(draw: Callable[..., Chart]) -> Callable[..., Chart]:
        check_name("chart", name, draw, CHARTS[name].draw if name in CHARTS else None)
        CHARTS[name] = RegisteredChart(title, draw, needs)
        return draw

    return register


def panels(rows: int, columns: int, titles: Sequence[str] = (), **more: Any) -> go.Figure:
    """Return an empty figure of panels that share their axes, without Plotly's own colours."""
    gaps = {"horizontal_spacing": min(0.04, 0.5 / columns), "vertical_spacing": min(0.09, 0.5 / rows)}
    shared = {"shared_xaxes": True, "shared_yaxes": True}
    fig = make_subplots(rows, columns, subplot_titles=list(titles) or None, **{**gaps, **shared, **more})
    fig.update_layout(
        template="none",
        height=PANEL_HEIGHT * rows + 130,
        margin={"l": 65, "r": 20, "t": 50, "b": 90},
        font={"size": 12},
        legend={"orientation": "h", "x": 0, "y": 0, "yref": "container", "yanchor": "bottom"},
        hovermode="closest",
    )
    fig.update_annotations(font={"size": 12})
    return fig


def line(
    fig: go.Figure, place: tuple[int, int], x: Real[np.ndarray, " n"], y: Float[np.ndarray, " n"], name: str,
    color: str, dash: str = "solid", legend: bool = True,
) -> None:  # fmt: skip
    """Add a curve [n] to the panel `place` (row, column, from 1).

    Curves of one name are switched on and off as one.
    """
    fig.add_scatter(
        x=x, y=np.asarray(y, dtype=float), name=name, legendgroup=name, showlegend=legend, mode="lines",
        line={"color": color, "dash": dash, "width": 2},
        hovertemplate=f"{name}<br>step %{{x:,}}: %{{y:.3f}}<extra></extra>", row=place[0], col=place[1],
    )  # fmt: skip


def band(
    fig: go.Figure, place: tuple[int, int], x: Real[np.ndarray, " n"], ends: tuple[Any, Any], name: str, color: str,
    values: Float[np.ndarray, "r n"] | None = None,
) -> None:  # fmt: skip
    """Add an interval (low [n], high [n]) as a band of the curve `name`.

    Where there is none, the seeds of which the curve is the mean (`values`) are points; nothing without them.
    """
    low, high = (np.asarray(end, dtype=float) for end in ends)
    known = np.isfinite(low) & np.isfinite(high)
    if not known.any():
        if values is not None:
            _seeds(fig, place, x, np.asarray(values, dtype=float), name, color)
        return
    x, low, high = np.asarray(x)[known], low[known], high[known]
    fig.add_scatter(
        x=np.concatenate([x, x[::-1]]), y=np.concatenate([high, low[::-1]]), fill="toself", mode="lines", opacity=0.3,
        line={"color": color, "width": 0}, legendgroup=name, showlegend=False, hoverinfo="skip",
        row=place[0], col=place[1],
    )  # fmt: skip


def _seeds(
    fig: go.Figure, place: tuple[int, int], x: Real[np.ndarray, " n"], values: Float[np.ndarray, "r n"], name: str,
    color: str,
) -> None:  # fmt: skip
    fig.add_scatter(
        x=np.tile(x, len(values)), y=values.ravel(), mode="markers", opacity=0.6, legendgroup=name, showlegend=False,
        marker={"color": color, "size": 4}, name=f"{name}, one seed",
        hovertemplate=f"{name}, one seed<br>step %{{x:,}}: %{{y:.3f}}<extra></extra>", row=place[0], col=place[1],
    )  # fmt: skip


def rule(fig: Any, place: tuple[int, int], y: float) -> None:
    """Draw a thin dotted line across a panel at the height `y`."""
    fig.add_hline(y, line={"color": MUTED, "width": 1, "dash": "dot"}, row=place[0], col=place[1])


def level_looks(ds: xr.Dataset, found: list[Level]) -> list[tuple[str, str]]:
    """Return colour (#rrggbb) and Plotly's dash of each level, those of the printed figures."""
    colors, _, _ = style.signal_colors(found)
    lines, _ = style.line_styles(ds, found)
    return [
        (to_hex(color), DASHES[style.LINES.index(one)]) for color, one in zip(colors, lines, strict=True)
    ]  # fmt: skip


def number(value: Any) -> str:
    """Return a number as text with two digits, "unknown" for NaN and None."""
    return "unknown" if value is None or not np.isfinite(value) else f"{value:.2f}"


def listed(parts: Iterable[str]) -> str:
    """Return parts as one sentence's list; at most twelve, and how many more there are."""
    parts = list(parts)
    more = f"; and {len(parts) - 12} more" if len(parts) > 12 else ""
    return "; ".join(parts[:12]) + more

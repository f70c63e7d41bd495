"""One self-contained page that shows a study: report.html. It asks no server and no network for anything."""

import dataclasses
import functools
import importlib.resources
import json
from collections.abc import Mapping
from typing import Any

import jinja2
import plotly.offline
import xarray as xr
from matplotlib.colors import to_hex, to_rgb

from cspace_jax.analysis.levels import levels, ok_runs
from cspace_jax.analysis.report import sentences
from cspace_jax.explorer import elicitation, learning, masking, network, overview, space, sprites
from cspace_jax.explorer.charts import CHARTS, Chart, level_looks
from cspace_jax.plots import style
from cspace_jax.plots.registry import Samples

# Importing a module registers its charts; tabs stand in this order.
MODULES = (learning, elicitation, network, masking)
DARK = {
    "#0072b2": "#56a8dc", "#d55e00": "#f2803a", "#009e73": "#2fc79c", "#8c8c8c": "#a8a8a8", "#222222": "#e6e6e6",
    "#c8102e": "#ff6b7f", "#1f4fd8": "#8aa8ff", "#2e8b57": "#5cc48a",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Inputs:
    """The inputs of a page.

    Attributes:
      ds: the labelled dataset.
      summary: what summary.json holds.
      question: one line; "" if none is known.
      config: what config.json holds.
      env: what env.json holds, {} if unknown.
      times: seconds a stage, {} if unknown.
      samples: step -> uint8 [r, k, n, h, w, 3]; may be empty.
    """

    ds: xr.Dataset
    summary: Mapping[str, Any]
    question: str
    config: Mapping[str, Any]
    env: Mapping[str, Any]
    times: Mapping[str, float]
    samples: Samples


def render(inputs: Inputs) -> str:
    """Return the page as HTML."""
    ds, summary = inputs.ds, inputs.summary
    drawn, left_out = _charts(ds, summary)
    data = {
        **space.payload(ds),
        "images": sprites.sheets(inputs.samples),
        "charts": {name: _chart_json(one) for name, one in drawn.items()},
        "dark": _dark(ds),
    }
    page = _environment().get_template("page.html")
    return page.render(
        study=summary["study"] or "study",
        question=inputs.question,
        findings=sentences(summary),
        claims=overview.claims(summary),
        times=overview.learning_times(ds, summary),
        run_line=overview.run_line(summary, inputs.env, inputs.times),
        facts=overview.facts(summary, inputs.env, inputs.times),
        config=json.dumps(inputs.config, indent=2),
        tabs=[(name, CHARTS[name].title, one.words, one.note) for name, one in drawn.items()],
        left_out=left_out,
        diverged=summary["runs"]["diverged"],
        data=_script_safe(json.dumps(data)),
        plotly=plotly.offline.get_plotlyjs(),
        css=_asset("page.css"),
        js=_asset("page.js"),
    )


def _charts(ds: xr.Dataset, summary: Mapping[str, Any]) -> tuple[dict[str, Chart], list[tuple[str, str]]]:
    """Return the charts of a study, and the title and the reason of those that it cannot have."""
    if not ok_runs(ds).any():
        return {}, [("All charts", "every run diverged")]
    place = {module.__name__: i for i, module in enumerate(MODULES)}  # a user's own charts come last
    order = sorted(CHARTS, key=lambda name: place.get(CHARTS[name].draw.__module__, len(place)))
    reasons = {name: CHARTS[name].cannot(ds, summary) for name in order}
    drawn = {name: CHARTS[name].draw(ds, summary) for name, why in reasons.items() if not why}
    return drawn, [(CHARTS[name].title, why) for name, why in reasons.items() if why]


def _chart_json(one: Chart) -> dict[str, Any]:
    return {
        "figure": json.loads(str(one.figure.to_json())),
        "csv": one.numbers.to_csv(index=False, lineterminator="\n"),
    }


def _dark(ds: xr.Dataset) -> dict[str, str]:
    """Return which colour replaces which on a dark page: darker ones would be lost on it."""
    of_levels = {color for color, _ in level_looks(ds, levels(ds))}
    of_blocks = {to_hex(color) for color in style.shades(ds.sizes.get("block", 1))}
    lighter = {color: _lighter(color) for color in of_levels | of_blocks}
    return {**lighter, **DARK}


def _lighter(color: str) -> str:
    red, green, blue = (0.45 + 0.55 * part for part in to_rgb(color))
    return to_hex((red, green, blue))


def _script_safe(text: str) -> str:
    """Return JSON that no name inside can end the script element of."""
    return text.replace("<", "\\u003c")


def _asset(name: str) -> str:
    return importlib.resources.files("cspace_jax.explorer").joinpath("assets", name).read_text(encoding="utf-8")


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(loader=jinja2.FunctionLoader(_asset), autoescape=True, undefined=jinja2.StrictUndefined)

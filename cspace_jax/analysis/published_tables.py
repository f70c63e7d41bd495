"""Tables for the terminal: a study beside the published numbers (`analysis/published.py`)."""

import math
from collections.abc import Sequence

import xarray as xr
from rich import box
from rich.console import Console
from rich.table import Table

from cspace_jax.analysis.levels import ok_runs
from cspace_jax.analysis.published import Part, Row, agreement, deviations
from cspace_jax.config import Config

MAX_NAMED = 6  # differing fields named in one line


def print_parts(parts: Sequence[Part], ds: xr.Dataset, config: Config, console: Console) -> None:
    """Print whether steps are comparable, a table a part with one row a level, and how well the order agrees."""
    _say_scale(ds, config, deviations(config), console)
    for part in parts:
        if not part.rows:
            console.print(f"{part.title}: no level of this study was published.\n", highlight=False)
            continue
        console.print(table(part.rows, part.columns, part.title))
        for key, name in part.columns.items():
            _say_order(part.rows, key, name, console)
        console.print()


def table(rows: Sequence[Row], columns: dict[str, str], title: str) -> Table:
    """Return a table with one row a level: measured | published."""
    made = Table(title=title, box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False)
    made.add_column("level", no_wrap=True)
    made.add_column("published at\nsep_col, sep_size", no_wrap=True)
    for name in columns.values():
        made.add_column(f"{name}\nours | publ.", justify="right", no_wrap=True)
    for row in rows:
        cells = [f"{_text(row.ours[key], key)} | {_text(row.published[key], key)}" for key in columns]
        made.add_row(row.level.label, f"{'' if row.exact else '~'}{row.at[0]:g}, {row.at[1]:g}", *cells)
    return made


def _text(value: float, key: str) -> str:
    if math.isnan(value):
        return "never"
    return f"{value:.2f}" if key.startswith(("min", "final")) else f"{value:,.0f}"


def _say_scale(ds: xr.Dataset, config: Config, different: list[str], console: Console) -> None:
    if different:
        more = f" and {len(different) - MAX_NAMED} more" if len(different) > MAX_NAMED else ""
        named = ", ".join(different[:MAX_NAMED]) + more
        text = f"NOT AT PAPER SCALE (scale {config.scale}; differing: {named}): "
        text += "published step numbers are not comparable, only the order of the levels is; ~ marks a nearest level."
    else:
        text = "At the paper's setting: steps and probabilities are comparable."
    text += f" Seeds: {len(set(ds['seed'].values.tolist()))}, published 5."
    diverged = int((~ok_runs(ds)).sum())
    console.print(text + (f" {diverged} runs diverged and are left out." if diverged else ""), highlight=False)


def _say_order(rows: Sequence[Row], key: str, name: str, console: Console) -> None:
    value = agreement(rows, key)
    said = "not defined" if math.isnan(value) else f"{value:+.2f}"
    console.print(f"  order of {name} over {len(rows)} level(s): rank correlation {said}", highlight=False)

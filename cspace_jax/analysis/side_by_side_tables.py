"""Tables of two studies side by side (`analysis/side_by_side.py`), for the terminal and for pandas."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from cspace_jax.analysis.verdict_tables import known, p_value, time_words, with_interval
from cspace_jax.config import Difference

MAX_VALUE = 60  # characters of a field's value
_TITLE = "\nSteps until a concept is learned ({learned}): median over seeds [95 %], and how many learned if not all did"
_LEGEND = (
    "difference: accuracy averaged over log(step), {second} minus {first}, median over shared seeds [95 %]; p: sign "
    "flips of the mean over shared seeds, or with fewer than three of them log-rank test of the times (marked L), "
    "corrected for all rows (Holm); sooner: shared seeds in which {second} learns sooner, and later. Difference and "
    "tests are of steps up to {tested_to_step:,}."
)


def print_differences(differences: Sequence[Difference], names: Sequence[str], console: Console) -> None:
    """Print the differences of two configurations, one line a field."""
    if not differences:
        console.print("The configurations are equal.", highlight=False)
        return
    table = _table(("field", *names))
    for one in differences:
        field = one.field if one.affects_results else f"{one.field} (changes no result)"
        table.add_row(field, *(_shown(value) for value in (one.first, one.second)))
    console.print(table)


def _shown(value: Any) -> str:
    text = str(tuple(value)) if isinstance(value, list) else repr(value) if value == "" else str(value)
    return text if len(text) <= MAX_VALUE else f"{text[: MAX_VALUE - 3]}..."


def print_rows(found: Mapping[str, Any], console: Console) -> None:
    """Print the learning times of `side_by_side.compare` and the tests, one row a level, class and concept."""
    first, second = found["studies"]
    if found["rows"]:
        console.print(_TITLE.format(**found), highlight=False)
        table = _table(("level", "class", "concept"), (first, second, "difference", "p", "sooner"))
        before: tuple[str, ...] = ()
        for row in found["rows"]:
            names = row["level"], row["klass"]
            if before and names[0] != before[0]:
                table.add_section()
            shown = ("" if names[:1] == before[:1] else names[0], "" if names == before else names[1])
            table.add_row(*shown, row["concept"], *_cells(row))
            before = names
        console.print(table)
        console.print(_LEGEND.format(first=first, second=second, **found), highlight=False)
    else:
        console.print("\nThe studies share no level: nothing is put side by side.", highlight=False)
    for name, labels in found["levels_of_one"].items():
        if labels:
            console.print(f"only in {name}: {'; '.join(labels)}", highlight=False)


def _cells(row: Mapping[str, Any]) -> list[str]:
    difference = "-"
    if row["shared_seeds"]:
        told, median = not row["difference"]["no_interval"], row["difference"]["median"]
        difference = (
            with_interval(row["difference"])
            if told
            else f"{median:+.2f}"
            if known(median)
            else row["difference"]["no_interval"]
        )
    p = p_value(row["p_holm"]) + (" L" if row["test"] == "log-rank" and known(row["p"]) else "")
    return [_time(row["first"]), _time(row["second"]), difference, p, f"{row['sooner']}, {row['later']}"]


def _time(times: Mapping[str, Any]) -> str:
    return time_words(times, share=" {learned}/{seeds}", at_most="<=")


def _table(left: Sequence[str], right: Sequence[str] = ()) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False)
    for name in left:
        table.add_column(name, overflow="fold")
    for name in right:
        table.add_column(name, justify="right", overflow="fold")
    return table


def to_frame(found: Mapping[str, Any]) -> pd.DataFrame:
    """Return the rows of `side_by_side.compare` by level, class and concept: times of both studies, and the tests."""
    index = ["level", "klass", "concept"]
    numbers = ("median", "low", "high", "learned", "seeds")
    tests = ("shared_seeds", "test", "p", "p_holm", "sooner", "later", "p_times")
    columns = [*index, *(f"{name}_{side}" for side in ("first", "second") for name in numbers), "difference", *tests]
    rows = []
    for row in found["rows"]:
        sides = {}
        for side in ("first", "second"):
            low, high = row[side]["interval"]
            values = {**row[side], "low": low, "high": high}
            sides |= {f"{name}_{side}": values[name] for name in numbers}
        named = {name: row[name] for name in (*index, *tests)}
        rows.append({**named, **sides, "difference": row["difference"]["median"]})
    return pd.DataFrame(rows, columns=columns).set_index(index)

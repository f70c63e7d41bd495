"""The tables of two studies side by side: what was found, what only one of them has, what nothing tells."""

import io

import pytest
import synthetic
from beside import SEEDS, later, row
from rich.console import Console

from cspace_jax.analysis import side_by_side, side_by_side_tables
from cspace_jax.config import differences
from cspace_jax.studies import loading


@pytest.fixture(scope="module")
def ds():
    return synthetic.dataset(levels=(0.2, 0.8), seeds=SEEDS)


def test_studies_without_a_shared_step_have_no_difference_and_say_so(ds):
    found = side_by_side.compare({"a": ds.isel(step=range(10)), "b": ds.isel(step=range(20, 60))})
    assert {one["difference"]["no_interval"] for one in found["rows"]} == {side_by_side.NO_STEP}
    console = Console(width=200, record=True, file=io.StringIO())
    side_by_side_tables.print_rows(found, console)
    text = console.export_text()
    assert side_by_side.NO_STEP in text and "nan" not in text


def test_only_shared_levels_are_paired_and_others_are_named(ds):
    other = synthetic.dataset(levels=(0.4, 0.8), seeds=(0, 100))
    found = side_by_side.compare({"a": ds, "b": other})
    assert {one["level"] for one in found["rows"]} == {"sep_col=0.8"}
    assert found["levels_of_one"] == {"a": ["sep_col=0.2"], "b": ["sep_col=0.4"]}
    none = side_by_side.compare({"a": ds, "b": synthetic.dataset(levels=(0.1, 0.4))})
    assert none["rows"] == [] and side_by_side_tables.to_frame(none).empty


def test_the_tables_say_what_was_found(ds):
    found = side_by_side.compare({"runs one": ds, "two": later(ds)})
    text = io.StringIO()
    console = Console(file=text, width=140)
    fields = differences(loading.configure("signal:quick", {}), loading.configure("signal:quick", {"optim.steps": 700}))
    side_by_side_tables.print_differences(fields, ("runs one", "two"), console)
    side_by_side_tables.print_rows(found, console)
    lines = text.getvalue().splitlines()
    assert [line.split() for line in lines if "optim.steps" in line] == [["optim.steps", "2400", "700"]]
    assert "two minus runs one" in " ".join(lines) and "steps up to 20,000" in " ".join(lines)
    assert sum("sep_col=" in line for line in lines) == 2
    frame = side_by_side_tables.to_frame(found)
    one = row(found, "sep_col=0.2", "seen", "joint")
    assert frame.loc["sep_col=0.2", "seen", "joint"]["median_second"] == one["second"]["median"]

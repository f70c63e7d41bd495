"""The report of a summary: strict JSON, tables on the terminal, long names of levels."""

import io
import json

import pytest
import synthetic
from etils import epath
from rich.console import Console

from cspace_jax.analysis import report
from cspace_jax.analysis.summary import summarise
from cspace_jax.storage.workdir import Workdir


def test_all_runs_diverged_still_gives_a_summary():
    ds = synthetic.dataset(levels=(0.2,), seeds=(0, 1), diverged=(0, 1))
    summary = summarise(ds)
    assert summary["runs"]["diverged"] == 2 and summary["levels"][0]["seeds"] == []
    report.print_summary(summary, Console(file=io.StringIO()))


def test_report_writes_strict_json_and_a_table(ds, tmp_path):
    out = io.StringIO()
    report.report(summarise(ds, wall_times={"train": 1.0}), Workdir(epath.Path(tmp_path)), Console(file=out, width=80))
    text = (tmp_path / "summary.json").read_text()
    stored = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert stored["levels"][0]["classes"]["11"]["learning_times"]["color"]["stays_80"]["median"] is None
    printed = out.getvalue()
    assert "never 0/3" in printed and "01 0.1" in printed and "1 of 12 runs diverged" in printed
    assert "…" not in printed
    assert "learned sooner at every stronger signal" in printed


LONG = [f"learning_rate={rate:g}, sep_col={color:g}" for rate in (0.001, 0.003) for color in (0.2, 0.25, 0.8)]


def printed_with(summary, labels, width):
    """The table with other names of its levels, then that of an elicitation with the same names."""
    levels = [{**summary["levels"][0], "label": label} for label in labels]
    time = {"median": 100.0, "learned": 3, "seeds": 3}
    one = {"emergence": time, "emergence_std": 5.0, "sooner_than_naive": 2, "final_split": 0.5, "best_split": 0.6,
           "final": 0.7}  # fmt: skip
    asked = [
        {"label": label, "classes": {"11": {"naive": one, "overprompt+patch:color_random": one}}} for label in labels
    ]
    out = io.StringIO()
    report.print_summary({**summary, "levels": levels, "elicitation": asked}, Console(file=out, width=width))
    return out.getvalue()


def test_long_names_of_levels_are_numbered_and_told_in_full(ds):
    printed = printed_with(summarise(ds), LONG, 80)
    lines = printed.splitlines()
    assert "…" not in printed and max(map(len, lines)) <= 80
    for number, label in enumerate(LONG, 1):
        assert lines.count(f"level {number}: {label}") == 2  # above either table
        assert len([line for line in lines if line.split()[:2] == [str(number), "seen"]]) == 1
        assert len([line for line in lines if line.split()[:3] == [str(number), "11", "naive"]]) == 1


def test_names_that_fit_stand_in_the_table(ds):
    for labels, width in [
        (LONG, 200),
        (["sep_col=0.2", "sep_col=0.8"], 80),
        (["learning_rate=0.2", "learning_rate=0.5"], 100),
    ]:
        printed = printed_with(summarise(ds), labels, width)
        assert "level 1" not in printed and "…" not in printed
        names = labels if labels is LONG else [label.partition("=")[2] for label in labels]
        assert all(sum(line.startswith(f"{name} ") for line in printed.splitlines()) == 2 for name in names)
    assert "level 1" not in printed_with(summarise(ds), ["learning_rate=0.003, sep_col=0.2"], 80)  # the only one

"""When a concept is learned: the definitions where they differ, and joint accuracy against its product."""

import io
import json

import numpy as np
import pytest
import synthetic
from rich.console import Console

from cspace_jax.analysis import learning, report
from cspace_jax.analysis.learning import describe_difference, product_check
from cspace_jax.analysis.levels import levels
from cspace_jax.analysis.summary import summarise
from cspace_jax.plots.speeds import fig3


def test_product_check_sees_dependent_failures():
    ds = synthetic.dataset(levels=(0.2,), seeds=(0, 1))
    level = levels(ds)[0]
    independent = ds.copy()
    independent["joint_accuracy"] = independent["accuracy"].prod("concept")
    assert product_check(independent, level, 3, "naive")["largest"] == 0
    assert product_check(ds, level, 3, "naive")["largest"] > 0.1  # the made samples fail together


def test_first_reach_and_stay_differ_where_a_curve_dips():
    steps = np.arange(0, 1000, 100)
    dips = np.array([[0, 0.9, 0.9, 0.2, 0.2, 0.9, 0.9, 0.9, 0.9, 0.9], [0, 0.9, 0, 0, 0, 0, 0, 0, 0, 0.0]])
    times = learning.learning_times(steps, dips)
    assert list(times) == ["first_80", "stays_80", "notebooks_90"]
    np.testing.assert_allclose(times["first_80"], [800 / 9, 800 / 9])
    np.testing.assert_allclose(times["stays_80"], [400 + 100 * 0.6 / 0.7, np.nan])


def test_the_configuration_says_which_definition_is_shown():
    ds = synthetic.dataset(levels=(0.2, 0.8), seeds=(0, 100))
    ds["accuracy"].values[:, 20, :, 3] = 1.0  # one save at which class 11 is drawn, and not at the next
    shown = {}
    for name in ("stays_80", "first_80"):
        named = ds.assign_attrs(config=json.dumps({"study": "signal", "scale": "quick", "learned": name}))
        found = summarise(named)
        console = Console(width=200, record=True, file=io.StringIO())
        report.print_summary(found, console)
        text = console.export_text()
        assert f"Steps until a concept is learned ({name})" in text
        assert "learned: first_80 = accuracy reaches 0.8 at some save" in text
        shown[name] = text
        assert fig3(named).axes[0].get_ylabel() == f"learning speed, {name}  [1 / 1,000 steps]"
    assert shown["stays_80"].splitlines()[3:] != shown["first_80"].splitlines()[3:]
    median = {
        name: one["median"] for name, one in found["levels"][0]["classes"]["11"]["learning_times"]["color"].items()
    }
    assert median["first_80"] < median["stays_80"]


def test_stored_results_are_shown_by_another_definition():
    stored = synthetic.dataset(levels=(0.2, 0.8), seeds=(0, 100))
    stored["accuracy"].values[:, 20, :, 3] = 1.0  # one save at which class 11 is drawn, and not at the next
    shown = learning.with_definition(stored, "first_80")
    assert (learning.definition_of(stored), learning.definition_of(shown)) == ("stays_80", "first_80")
    displayed = []
    for ds, name in ((stored, "stays_80"), (shown, "first_80")):
        found, console = summarise(ds), Console(width=200, record=True, file=io.StringIO())
        report.print_summary(found, console)
        row = next(line.split() for line in console.export_text().splitlines() if line.split()[:1] == ["11"])
        median = found["levels"][0]["classes"]["11"]["learning_times"]["color"][name]["median"]
        assert found["learned"] == name and row[1] == f"{median:,.0f}"  # of colour at the weakest signal
        displayed.append(row[1])
    assert displayed == ["5,571", "3,874"]
    kept, config = json.loads(stored.attrs["config"]), json.loads(shown.attrs["config"])
    assert config == kept | {"learned": "first_80"} and "learned" not in kept


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_medians_of_differences_that_few_seeds_gain_are_covered(share):
    """Half a unit in a share of the seeds: Student's interval of their mean covers 57 to 81 % of them with 3 to 6."""
    rng = np.random.default_rng(0)
    found = np.where(rng.random((2000, 8)) < share, 0.5, 0.02) + rng.normal(0, 0.02, (2000, 8))
    truth = np.median(np.where(rng.random(10**6) < share, 0.5, 0.02) + rng.normal(0, 0.02, 10**6))
    for seeds in (6, 8):
        ends = np.array([describe_difference(one)["interval"] for one in found[:, :seeds]])
        assert np.mean((ends[:, 0] <= truth) & (truth <= ends[:, 1])) >= 0.93
    few = describe_difference(found[0, :5])
    assert np.isnan(few["interval"]).all() and few["no_interval"] == "n = 5: no 95 % interval"
    assert few["mean"] == pytest.approx(found[0, :5].mean()) and few["median"] == np.median(found[0, :5])
    assert np.isnan(describe_difference(np.zeros(0))["median"])

"""Stable and unstable seeds beside Fig. 17: kinds by hand, steps of known curves, the table of the figure."""

import json

import numpy as np
import pytest
import synthetic

from cspace_jax.analysis import stability
from cspace_jax.analysis.levels import levels
from cspace_jax.plots import elicitation

STEPS = (100, 200, 300, 400, 500)
CURVES = {  # of naive prompting, a seed each
    "stable": (0.1, 0.3, 0.8, 0.9, 0.85),
    "unstable": (0.9, 0.7, 0.9, 0.6, 1.0),
    "never learned": (0.1, 0.2, 0.79, 0.7, 0.6),
}


@pytest.fixture(scope="module")
def ds():
    made = synthetic.dataset(levels=(0.2,), seeds=(0, 1, 2), steps=STEPS).reindex(protocol=["naive", "patch"])
    dims = ("run", "step", "protocol", "klass")
    values = np.full([made.sizes[name] for name in dims], np.nan)
    values[:, :, 0, 3] = list(CURVES.values())
    values[:, :, 1, 3] = [(0, 0.6, 1, 1, 1), (0, 0, 0, 1, 0.5), (0, 0, 0, 0, 1)]
    return made.assign(capability=(dims, values), capability_init=(("run", "protocol", "klass"), values[:, 0]))


def test_kinds_of_curves():
    for name, curve in CURVES.items():
        assert stability.kind(np.array(STEPS), np.array(curve)) == name
    assert stability.kind(np.array(STEPS), np.ones(5)) == "stable"
    assert stability.kind(np.array(STEPS), np.array((0, 0, 0, 0.9, 0.1))) == "unstable"  # it falls at the last save


def test_steps_and_dips_of_each_seed(ds):
    found = stability.seeds(ds, levels(ds)[0], 3)
    assert [one["seed"] for one in found] == [0, 1, 2] and [one["kind"] for one in found] == list(CURVES)
    assert [one["stable"] for one in found] == [True, False, False] and [one["dips"] for one in found] == [0, 2, 0]
    np.testing.assert_allclose([one["reach"] for one in found], [300, 100, np.nan])
    np.testing.assert_allclose([one["naive"] for one in found], [300, 450, np.nan])  # between .6 and 1
    np.testing.assert_allclose([one["patch"] for one in found], [250, np.nan, 480])


def test_a_seed_with_a_broken_query_is_neither_stable_nor_never(ds):
    broken = ds.copy(deep=True)
    broken["capability"].values[0, 1, 0, 3] = broken["capability"].values[2, 1, 1, 3] = np.nan
    assert [one["seed"] for one in stability.seeds(broken, levels(broken)[0], 3)] == [1]


def test_the_block_counts_in_which_seeds_patching_works(ds):
    assert stability.asked_patch(ds) and not stability.asked_patch(synthetic.dataset())
    (level,) = stability.summarise(ds)
    assert list(level["classes"]) == ["11"]
    assert level["classes"]["11"]["kinds"] == {
        "stable": {"seeds": 1, "patched": 1}, "unstable": {"seeds": 1, "patched": 0},
        "never learned": {"seeds": 1, "patched": 1},
    }  # fmt: skip


def test_fig17_has_the_table_below(ds):
    fig = elicitation.fig17(ds)
    (table,) = (ax.tables[0] for ax in fig.axes if ax.tables)
    cells = {place: cell.get_text().get_text() for place, cell in table.get_celld().items()}
    rows = [[cells[row, column] for column in range(5)] for row in range(4)]
    assert rows[1:] == [
        ["0", "stable", "300", "300", "250"], ["1", "unstable", "100", "450", "never"],
        ["2", "never learned", "never", "never", "480"],
    ]  # fmt: skip
    assert rows[0][1] == "naive prompting of 11"
    assert "(b) patched from the last checkpoint" in [ax.get_title() for ax in fig.axes]


def test_fig17_names_the_step_of_the_patch_of_its_own_battery(ds):
    """The configuration is that of a battery that was asked later."""
    config = json.dumps({"elicit": {"patch_step": 100}})
    later = ds.assign_attrs(config=config, batteries=json.dumps({"patch": {"patch_step": 300}}))
    assert "(b) patched from step 300" in [ax.get_title() for ax in elicitation.fig17(later).axes]

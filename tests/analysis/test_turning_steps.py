"""When each run turns: among the saves, and among steps that were added around it."""

import numpy as np
import pytest
import synthetic

from cspace_jax.analysis import curves, learning, turning_steps


@pytest.fixture(scope="module")
def ds():
    return synthetic.dataset(levels=(0.1, 0.2), seeds=(0, 100), diverged=(3,))


def test_runs_that_turn_have_the_step_of_their_own_trajectory(ds):
    (found,) = turning_steps.turns(ds)  # the weakest level never turns, the last run diverged
    assert (found.run, found.klass, found.concept) == (2, "11", "color")
    path = learning.trajectory(ds, [2], 3, "naive", learning.default_sigma(ds))[0]
    steps = ds["step"].values
    expected = curves.find_memorisation(steps, path, ds["bit"].values, 3, ds["trained"].values).turning_step
    place = int(np.flatnonzero(steps == expected)[0])
    assert found.by_saves == expected and found.spacing == steps[place + 1] - steps[place - 1]
    assert np.isnan(found.zoomed) and np.isnan(found.zoomed_spacing)


def test_added_steps_tell_where_the_concept_is_drawn_least(ds):
    turn = turning_steps.turns(ds)[0]
    middle = int(turn.by_saves)
    added = ds.isel(run=[2], step=slice(0, 5)).copy(deep=True).assign_coords(run=[2])
    added = added.assign_coords(step=middle + 7 * np.arange(-2, 3))
    added["prob"].values[...] = 0.9
    added["prob"].loc[{"run": 2, "klass": "11", "concept": "color"}] = np.array([[0.3, 0.2, 0.1, 0.01, 0.2]]).T
    (found,) = turning_steps.turns(ds, added)
    between = [one for one in ds["step"].values if middle - 14 <= one <= middle + 14]
    assert middle in between  # a save counts too, once
    assert found.zoomed == middle + 7 and found.zoomed_spacing == 7
    assert (found.by_saves, found.spacing) == (turn.by_saves, turn.spacing)


@pytest.mark.parametrize("kept", [slice(0, 1), slice(0, 0)])
def test_fewer_than_two_added_steps_and_those_of_other_runs_tell_nothing(ds, kept):
    added = ds.isel(run=[2], step=kept).assign_coords(run=[2])
    assert np.isnan(turning_steps.turns(ds, added)[0].zoomed)
    other = ds.isel(run=[0]).assign_coords(run=[0])
    assert np.isnan(turning_steps.turns(ds, other)[0].zoomed)

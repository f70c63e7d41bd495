"""What is asked to be added to a study, in configurations and in words; nothing is trained."""

import pytest
import tiny

from cspace_jax.config import GridConfig
from cspace_jax.errors import UserError
from cspace_jax.pipeline import extension
from cspace_jax.storage import extensions
from cspace_jax.storage import workdir as workdirs
from cspace_jax.storage.extensions import Extensions

MADE = tiny.study()  # two signals, two seeds, six steps


@pytest.fixture
def folder(tmp_path):
    return workdirs.prepare(tmp_path / "w", MADE)


def test_missing_runs_are_those_of_the_wanted_product(folder):
    asked = extension.wanted(folder.root, {"seeds": (0, 3)})
    assert asked.grid.sep_col == MADE.grid.sep_col and asked.grid.seeds == (0, 3)
    kept, added = extension.request(folder, MADE, asked)
    assert kept == MADE and [one.num_runs for one in added.grids] == [2] and added.grids[0].seeds == (3,)
    assert extension.describe(Extensions(), added) == "adds 2 runs"
    extensions.write(folder, added)
    assert extension.request(folder, MADE, extension.wanted(folder.root, {"seeds": (0, 3)}))[1] == added
    assert extension.describe(added, added) == "adds nothing new"
    assert extension.grown(folder.root).grid.seeds == (*MADE.grid.seeds, 3)


def test_an_axis_that_does_not_exist_and_another_study_are_refused(folder):
    with pytest.raises(UserError, match="^sep_colour = .*must be an axis of the grid .sep_col, "):
        extension.wanted(folder.root, {"sep_colour": (0.2,)})
    other = tiny.changed(extension.wanted(folder.root, {"seeds": (3,)}), optim={"batch_size": 2})
    with pytest.raises(
        UserError, match="^optim.batch_size = 2: all runs of a workdir share it, here 4; in a new workdir:"
    ):
        extension.request(folder, MADE, other)
    with pytest.raises(UserError, match=r"^save.steps.2. = 6: must be at most optim.steps = 5$"):
        extension.wanted(folder.root, {}, 5)


def test_saves_of_a_longer_training_go_on_or_are_those_asked_for():
    longer = tiny.changed(MADE, optim={"steps": 9})
    assert extension._saves(MADE, longer, MADE) == (2, 5, 6, 8, 9)
    own = tiny.changed(longer, save={"steps": (2, 5, 6, 7)})
    assert extension._saves(MADE, own, MADE) == (2, 5, 6, 7)
    for steps in ((2, 6, 9), (5, 6, 9), (2, 5)):
        with pytest.raises(UserError, match=r"must begin with the 3 saved steps that are there: \(2, 5, 6\)"):
            extension._saves(MADE, tiny.changed(longer, save={"steps": steps}), MADE)


def test_more_runs_and_more_steps_are_told_together():
    before = Extensions((GridConfig(seeds=(1,)),), 9)
    after = Extensions((*before.grids, GridConfig(seeds=(2, 3))), 12_000)
    assert extension.describe(before, after) == "adds 2 runs and steps up to 12,000"
    assert extension.describe(before, Extensions(before.grids, 12)) == "adds steps up to 12"

"""What was added to a finished study: written, read back, and never forgotten while its runs are there."""

import json

import pytest
import tiny
from etils import epath

from cspace_jax.config import GridConfig
from cspace_jax.errors import UserError
from cspace_jax.storage import extensions
from cspace_jax.storage.extensions import Extensions
from cspace_jax.storage.workdir import Workdir

ADDED = Extensions((GridConfig(seeds=(7,)), GridConfig(sep_col=(0.5,))), 9, (2, 5, 6, 9))


@pytest.fixture
def workdir(tmp_path):
    return Workdir(epath.Path(tmp_path))


def test_what_was_added_comes_back(workdir):
    assert extensions.read(workdir) == Extensions()
    extensions.write(workdir, ADDED)
    assert extensions.read(workdir) == ADDED


def test_a_record_that_is_gone_is_told_while_there_are_runs(workdir):
    extensions.write(workdir, ADDED)
    folder = workdir.extension(0).root
    folder.mkdir(parents=True)
    workdir.extensions.unlink()
    with pytest.raises(
        UserError, match=f"is gone, .* the runs in {folder} are: restore it, or remove {folder.parent} "
    ):
        extensions.read(workdir)


def test_a_changed_record_is_damage(workdir):
    extensions.write(workdir, ADDED)
    text = workdir.extensions.read_text()
    unknown = json.dumps({"grids": [], "step": 9})
    for changed, words in ((text.replace("9", "8"), "checksum"), (text[:20], ""), (unknown, "did you mean 'steps'")):
        workdir.extensions.write_text(changed)
        with pytest.raises(UserError, match=rf"is damaged \(.*{words}.*\): restore it"):
            extensions.read(workdir)


def test_steps_are_added_and_taken_away_again():
    made = tiny.study()
    longer = extensions.lengthened(made, ADDED)
    assert (longer.optim.steps, longer.save.steps) == (9, (2, 5, 6, 9)) and longer.grid == made.grid
    assert extensions.lengthened(made, Extensions(ADDED.grids)) is made
    assert extensions.as_made(longer, made, ADDED) == made
    other = tiny.changed(longer, optim={"steps": 12})
    assert extensions.as_made(other, made, ADDED) is other  # it asks for more than was added
    assert extensions.with_steps_of(other, made) == made

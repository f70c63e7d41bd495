"""The configuration of a workdir as a config file: what was stored, with fields that can be overridden."""

import pytest
import tiny

from cspace_jax.cli import stored_config
from cspace_jax.config import from_config_dict
from cspace_jax.errors import UserError
from cspace_jax.storage import workdir


def test_it_is_the_stored_configuration_with_tuples_that_can_be_overridden(tmp_path):
    made = tiny.study(grid={"sep_col": (0.3,)})
    workdir.prepare(tmp_path / "w", made)
    found = stored_config.get_config(str(tmp_path / "w"))
    assert from_config_dict(found) == made and found.grid.sep_col == (0.3,)
    found.grid.sep_col = (0.2, 0.8)
    with pytest.raises(AttributeError, match="did you mean 'steps'"):
        found.optim.stepz = 3
    assert from_config_dict(found) == tiny.changed(made, grid={"sep_col": (0.2, 0.8)})


def test_a_folder_that_is_no_workdir_is_one_line(tmp_path):
    with pytest.raises(UserError, match="has no config.json"):
        stored_config.get_config(str(tmp_path))

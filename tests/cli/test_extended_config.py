"""The configuration of a workdir with all that was added to it, as a config file."""

import tiny

from cspace_jax.cli import extended_config, stored_config
from cspace_jax.config import GridConfig, from_config_dict
from cspace_jax.storage import extensions, workdir


def test_it_has_the_values_of_all_axes_and_all_steps(tmp_path):
    made = tiny.study()
    folder = workdir.prepare(tmp_path, made)
    assert from_config_dict(extended_config.get_config(str(tmp_path))) == made
    grid = GridConfig(seeds=(3,), sep_col=(0.5,))
    extensions.write(folder, extensions.Extensions((grid,), 9, (2, 5, 6, 9)))
    found = extended_config.get_config(str(tmp_path))
    assert (found.optim.steps, found.save.steps) == (9, (2, 5, 6, 9))
    assert found.grid.seeds == (*made.grid.seeds, 3) and found.grid.sep_col == (*made.grid.sep_col, 0.5)
    assert from_config_dict(stored_config.get_config(str(tmp_path))) == made

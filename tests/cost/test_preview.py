"""The forecast of a study."""

import tiny

from cspace_jax.config.plan import Plan
from cspace_jax.cost import memory, operations, preview
from cspace_jax.text import in_words

CONFIG = tiny.study(network=tiny.NARROW)  # four runs, saves 2, 5, 6
SAVE = 4 * 4 * operations.parameters(CONFIG)  # four runs, four bytes a number


def test_the_disk_is_counted_by_what_a_study_leaves():
    state = 4 * memory.state_bytes(CONFIG)
    for save, saves, states in (({}, 3, 2), ({"keep": "last"}, 1, 2), ({"keep_states": (2,)}, 3, 3)):
        (line,) = preview._disk(tiny.changed(CONFIG, save=save), Plan())
        assert line.startswith(f"disk at most: {in_words(saves * SAVE + states * state)}: ")
        assert in_words(states * state) in line and ("1 that are kept" in line) == ("keep_states" in save)

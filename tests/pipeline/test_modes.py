"""The table of modes agrees with itself."""

import pytest

from cspace_jax.pipeline import modes


@pytest.mark.parametrize("name", modes.MODES)
def test_a_mode_that_only_reads_neither_trains_nor_computes_and_needs_a_workdir(name):
    mode = modes.MODES[name]
    if mode.only_reads:
        assert mode.of_a_workdir and not (mode.trains or mode.reads or mode.computes or mode.logs)
    assert mode.only_reads or not mode.shows  # what is shown elsewhere leaves the workdir as it is
    assert mode.computes or not (mode.trains or mode.reads)


def test_the_lists_of_modes_follow_from_the_table():
    assert modes.SHOWS == ("figures", "report") and modes.LOGGED == ("train", "eval", "elicit", "extend", "all")
    assert set(modes.MODES) - set(modes.OF_A_STUDY) == {"plan", "compare"}

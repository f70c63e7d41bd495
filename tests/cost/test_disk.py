"""The disk that a study takes, and the saves whose parameters stay."""

import dataclasses

import pytest
import tiny

import cspace_jax as cs
from cspace_jax.cost import disk, memory, operations
from cspace_jax.text import in_words

CONFIG = tiny.study(network=tiny.NARROW)  # four runs, saves 2, 5, 6
SAVE = 4 * 4 * operations.parameters(CONFIG)  # four runs, four bytes a number


@pytest.mark.parametrize(
    ("save", "kept"),
    [
        ({}, (2, 5, 6)),
        ({"limit_gb": 3 * SAVE / 1e9}, (2, 5, 6)),
        ({"limit_gb": 2.99 * SAVE / 1e9}, (6,)),
        ({"keep": "all", "limit_gb": 0.0}, (2, 5, 6)),
        ({"keep": "last"}, (6,)),
        ({"keep": "last", "keep_steps": (5,)}, (5, 6)),
        ({"keep_steps": (6, 2)}, (2, 6)),
    ],
)
def test_which_saves_keep_their_parameters(save, kept):
    assert disk.kept_steps(tiny.changed(CONFIG, save=save)) == kept


def test_what_is_kept_is_said_with_its_size():
    assert disk.describe(CONFIG) == f"parameters of all 3 saves kept ({in_words(3 * SAVE)})"
    words = f"parameters of 1 of 3 saves kept ({in_words(SAVE)} instead of {in_words(3 * SAVE)})"
    assert disk.describe(tiny.changed(CONFIG, save={"keep": "last"})) == words


def test_the_disk_of_a_study_with_added_runs_counts_them_all():
    one = tiny.changed(CONFIG, grid={"seeds": (7,)})  # two runs
    assert disk.describe(CONFIG, one) == f"parameters of all 3 saves kept ({in_words(4.5 * SAVE)})"
    limit = {"limit_gb": 2 * SAVE / 1e9}  # all saves of two runs, not of four
    words = f"parameters of 1 or 3 of 3 saves kept ({in_words(2.5 * SAVE)} instead of {in_words(4.5 * SAVE)})"
    assert disk.describe(*(tiny.changed(config, save=limit) for config in (CONFIG, one))) == words


def test_the_papers_grid_keeps_the_last_save_and_small_studies_all():
    paper = cs.load_config("signal:paper")
    assert disk.kept_steps(paper) == (20_000,)
    assert disk.save_bytes(paper) + 100 * memory.state_bytes(paper) < 18e9
    everything = dataclasses.replace(paper, save=dataclasses.replace(paper.save, keep="all"))
    assert 250e9 < len(disk.kept_steps(everything)) * disk.save_bytes(everything) < 260e9
    for name in ("signal:quick", "hidden:quick", "hidden:paper", "underspec:quick"):
        assert len(disk.kept_steps(cs.load_config(name))) > 1, name

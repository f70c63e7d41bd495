"""Waves: their rows and folders, how a grid is cut, and records that are damaged."""

import pytest
import tiny

import cspace_jax as cs
from cspace_jax.engine import schedule
from cspace_jax.errors import UserError
from cspace_jax.pipeline import waves as study_waves
from cspace_jax.pipeline.waves import cut, load_cut, record
from cspace_jax.storage import workdir

CONFIG = tiny.study(network=tiny.NARROW, diffusion={"schedule": "fixed_linear"}, optim={"clip": 1.0})


def test_waves_have_their_own_folders_and_rows(workdir):
    waves = study_waves.load(workdir, tiny.changed(CONFIG, engine={"wave": 3}))
    assert [list(wave.rows) for wave in waves] == [[0, 1, 2], [3]]
    assert len({wave.params_folder for wave in waves} | {wave.state_folder for wave in waves}) == 4
    assert waves[1].eval_file(7).name == "step_00000007.npz"
    assert schedule.waves(4, 3) == [slice(0, 3), slice(3, 4)]


@pytest.mark.parametrize(
    ("runs", "size", "count", "expected"),
    [
        (5, 0, 2, [(0, 3), (3, 5)]),
        (5, 2, 2, [(0, 2), (2, 3), (3, 5)]),
        (2, 0, 3, [(0, 1), (1, 2)]),
        (4, 1, 1, [(0, 1), (1, 2), (2, 3), (3, 4)]),
    ],
)
def test_the_grid_is_cut_by_processes_and_by_size(runs, size, count, expected):
    assert [(one.start, one.stop) for one in cut(runs, size, count)] == expected


@pytest.fixture
def kept(tmp_path):
    config = cs.load_config("signal:smoke")
    return workdir.prepare(tmp_path / "w", config), config


def test_a_cut_holds_once_there_are_files_of_waves(kept):
    folder, config = kept
    record(folder, config, 0, 3)
    assert [one.stop for one in load_cut(folder, config)] == [2, 3, 4]
    record(folder, config, 0, 1)
    assert [one.stop for one in load_cut(folder, config)] == [4] and not folder.waves.exists()
    record(folder, config, 0, 2)
    folder.checkpoints.mkdir()
    record(folder, config, 0, 4)
    record(folder, config, 1, 1)
    assert [one.stop for one in load_cut(folder, config)] == [2, 4]


@pytest.mark.parametrize("text", ["{", "[[0, 2], [3, 4]]", "[[0, 4], [4, 4]]", "[1, 2]", "[[0, 2]]"])
def test_a_damaged_cut_is_one_line(text, kept):
    folder, config = kept
    folder.waves.write_text(text)
    with pytest.raises(UserError, match=r"waves.json' is damaged"):
        load_cut(folder, config)

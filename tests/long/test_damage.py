"""Damaged files and odd settings of the environment: the same numbers, or one line."""

import os
import pathlib
import shutil

import numpy as np
import pytest
from commands import ROOT, assert_one_line, assert_same_table, real_command, study, without_progress
from smoke import ARGUMENTS, made

import cspace_jax as cs
from experiments import torture, torture_damages

# How ml_collections loads config files.
pytestmark = pytest.mark.filterwarnings(r"ignore:the load_module\(\) method is deprecated:DeprecationWarning")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The workdir of a study with a battery of protocols."""
    folder = tmp_path_factory.mktemp("work") / "hidden"
    made("hidden", folder)
    return folder


def copy_of(folder, tmp_path):
    return pathlib.Path(shutil.copytree(folder, tmp_path / "copy"))


def test_settings_in_the_environment_change_no_number(tmp_path):
    (tmp_path / "rc").write_text("text.usetex: True\nfont.size: 31\n")
    odd = {"JAX_ENABLE_X64": "1", "JAX_THREEFRY_PARTITIONABLE": "0", "JAX_DEFAULT_PRNG_IMPL": "rbg"}
    odd |= {"JAX_DEBUG_NANS": "1", "JAX_DISABLE_JIT": "1", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    odd |= {"JAX_TRANSFER_GUARD": "disallow", "JAX_CHECK_TRACER_LEAKS": "1", "PYTHONWARNINGS": "error"}
    odd |= {"JAX_NUMPY_RANK_PROMOTION": "raise", "MATPLOTLIBRC": str(tmp_path / "rc"), "HOME": "/proc/none"}
    done = real_command(study("hidden"), f"--workdir={tmp_path / 'w'}", *ARGUMENTS["hidden"], **odd)
    assert done.code == 0, done.err
    assert done.out.count("its default, which the numbers of a study are made with") == 3
    assert done.out.count("its default, without which a study may fail") == 5
    assert_same_table(tmp_path / "w" / "concept_space.csv", ROOT / "tests" / "golden" / "smoke_narrow" / "hidden.csv")


def damage(folder):
    for file in folder.rglob("*"):
        if file.is_file() and file.stat().st_size > 100:
            os.truncate(file, file.stat().st_size // 2)


def test_a_truncated_checkpoint_in_a_real_process_is_one_line(finished, tmp_path):
    folder = copy_of(finished, tmp_path)
    damage(folder / "checkpoints" / "wave_000" / "params" / "3")
    next(folder.rglob("step_00000003.npz")).unlink()
    done = real_command("--mode=eval", f"--workdir={folder}")
    assert_one_line(without_progress(done), "params/3: is damaged")


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("eval/*/*.npz", "cut in half", torture.NAMED),
        ("eval/*/*.npz", "removed", torture.SAME),  # read again
        ("eval/*/*.npz", "with the content of a neighbour", torture.NAMED),
        ("metrics.jsonl", "with a flipped bit", torture.NAMED),
        ("metrics.jsonl", "cut in half", torture.NAMED),
        ("metrics.jsonl", "removed", torture.NAMED),
        ("elicit/*/*/*.npz", "emptied", torture.NAMED),
        ("concept_space.csv", "with a flipped bit", torture.SAME),  # made again
        ("checkpoints/*/params/*/_CHECKPOINT_METADATA", "removed", torture.SAME),  # needed no more
    ],
)
def test_a_damaged_file_ends_in_the_same_results_or_in_one_line(pattern, name, expected, finished, tmp_path):
    """The campaign of experiments/torture.py in short."""
    config = cs.open_study(finished).config
    job = torture.Job((), lambda one: cs.run(config, one), None, finished)
    folder = copy_of(finished, tmp_path)
    target = sorted(folder.glob(pattern))[1 if "*" in pattern else 0]
    torture_damages.DAMAGES[name](target, np.random.default_rng(0))
    what, found = torture.go_on(job, folder, "damage")
    assert found == expected and (found == torture.SAME or target.name in what)

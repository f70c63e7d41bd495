"""Checkpoints after a kill, damage, a full disk or an exchange."""

import errno
import itertools
import os
import shutil
import signal
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checkpoints import (
    RUNS,
    abstract,
    assert_same_bits,
    data_files,
    expect_error,
    make_state,
    run_of,
    run_script,
    script,
    write_older,
)
from etils import epath

from cspace_jax.errors import UserError
from cspace_jax.storage import checkpoint, leaves, orbax_calls
from cspace_jax.storage.checkpoint import CheckpointWriter, equal_runs, is_intact, restore, restore_run, steps
from cspace_jax.storage.evaluations import read_evaluation, write_npz
from cspace_jax.storage.metrics import append_metrics, read_metrics

# Checkpoints are written and damaged by the dozen.
pytestmark = pytest.mark.system


_SAVER = """
import sys, jax.numpy as jnp
from cspace_jax.storage.checkpoint import CheckpointWriter
state = {f"w{i}": jnp.full((2, 50_000), 1.0) for i in range(40)}
with CheckpointWriter(sys.argv[1]) as writer:
    writer.save(0, state)
    writer.wait()
    print("go", flush=True)
    while True:
        for step in (1, 2):
            writer.save(step, state)
"""


def test_kill_in_a_save_leaves_complete_checkpoints_only(tmp_path):
    """Kills at five moments of a loop that saves without pause, then finds every listed step whole and saves again."""
    state = {f"w{i}": jnp.full((2, 50_000), 1.0) for i in range(40)}
    caught = 0
    for moment in range(5):
        with script(_SAVER, tmp_path) as child:
            assert child.stdout is not None and child.stdout.readline() == "go\n"
            time.sleep(0.027 * moment)
            child.send_signal(signal.SIGKILL)
        caught += any(not name.isdecimal() for name in os.listdir(tmp_path))
        assert 0 in steps(tmp_path)
        for step in steps(tmp_path):
            assert_same_bits(restore(tmp_path, step, state), state)
    assert caught > 0, "no kill hit a save: the test has lost its point"
    with CheckpointWriter(tmp_path) as writer:
        for step in (1, 2):
            writer.save(step, state)
    assert sorted(os.listdir(tmp_path)) == ["0", "1", "2"]
    assert_same_bits(restore(tmp_path, 2, state), state)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 64
    file.write_bytes(content)


# On a machine busy with other things a read of a damaged checkpoint may settle later than the code waits for it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("damage", [truncate, flip, lambda file: file.write_bytes(b""), Path.unlink])
def test_damage_is_an_error_or_harmless(saved, tmp_path, damage, capfd, monkeypatch):
    """Whichever file is hit: one line of error or the right bits, never wrong ones, and nothing on the terminal."""
    monkeypatch.setattr(orbax_calls, "_SETTLE_SECONDS", 0.05)  # dozens of reads fail
    state, reported = make_state(0), []
    for file in data_files(saved / "500"):
        shutil.copytree(saved, tmp_path / "hit", dirs_exist_ok=True)
        damage(tmp_path / "hit" / file.relative_to(saved))
        for read, expected in (
            (lambda: restore(tmp_path / "hit", 500, abstract(state)), state),
            (lambda: restore_run(tmp_path / "hit", 500, abstract(state), 1), run_of(state, 1)),
        ):
            try:
                assert_same_bits(read(), expected)
            except UserError as error:
                assert str(tmp_path / "hit" / "500") in str(error) and "\n" not in str(error)
                reported.append(file.name)
        shutil.rmtree(tmp_path / "hit")
    assert len(reported) >= 4
    assert capfd.readouterr() == ("", "")


def test_flipped_array_data_is_noticed(tmp_path):
    """The storage format has no checksum over array data, so this one is ours."""
    state = {"w": jax.random.normal(jax.random.key(0), (RUNS, 5000))}
    with CheckpointWriter(tmp_path) as writer:
        writer.save(1, state)
    flip(max(data_files(tmp_path), key=lambda p: p.stat().st_size))
    with pytest.raises(UserError, match="damaged"):
        restore(tmp_path, 1, state)


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), ValueError("UNKNOWN: Input/output error [5]")])
def test_an_error_of_the_disk_is_no_damage(error, saved, monkeypatch):
    """Nothing is to be removed, or put aside, for it."""

    def fails(*_):
        raise error

    monkeypatch.setattr(checkpoint.ocp, "metadata", fails)
    monkeypatch.setattr(checkpoint.ocp, "load", fails)
    for call in (lambda: restore(saved, 20, make_state()), lambda: is_intact(saved, 20)):
        expect_error("cannot be read (input/output error of the disk); it may be whole", call)


def test_a_checkpoint_that_cannot_be_removed_is_one_line(saved, monkeypatch):
    def fails(*_):
        raise OSError(errno.EIO, "x")

    monkeypatch.setattr(type(saved), "rename", fails)
    monkeypatch.setattr(checkpoint.epath.Path("x").__class__, "rename", fails)
    expect_error("cannot write", lambda: checkpoint.remove(saved, 20))
    assert is_intact(saved, 20)


def test_a_clock_that_jumps_ends_no_save(tmp_path, monkeypatch):
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 1e5 * next(jumps))
    jumps = itertools.count()
    with CheckpointWriter(tmp_path) as writer:
        writer.save(1, {"w": jnp.zeros((RUNS, 3))})
        writer.wait()
        assert next(jumps) > 1  # the clock was asked
    monkeypatch.undo()
    assert is_intact(tmp_path, 1)


def test_the_checkpoint_of_another_step_is_noticed(tmp_path):
    with CheckpointWriter(tmp_path) as writer:
        for step in (1, 2):
            writer.save(step, {"w": jnp.full((RUNS, 3), step)})
    shutil.rmtree(tmp_path / "1")
    shutil.copytree(tmp_path / "2", tmp_path / "1")
    state = {"w": jnp.full((RUNS, 3), 2)}
    with pytest.raises(UserError, match="1: is damaged"):
        restore(tmp_path, 1, state)
    assert_same_bits(restore(tmp_path, 2, state), state)
    assert not is_intact(tmp_path, 1) and is_intact(tmp_path, 2)


def test_checksums_of_another_number_of_runs_are_damage(tmp_path, monkeypatch):
    state = {"w": jnp.ones((RUNS, 3))}
    with monkeypatch.context() as other, CheckpointWriter(tmp_path) as writer:
        other.setattr(leaves, "checksum", lambda arrays, mark: np.zeros(RUNS - 1, np.uint32))
        writer.save(1, state)
    assert not is_intact(tmp_path, 1)
    with pytest.raises(UserError, match="damaged"):
        restore(tmp_path, 1, state)


@pytest.mark.parametrize("kind", ["params", "state"])
def test_the_checkpoint_of_another_wave_is_noticed(kind, tmp_path):
    """Waves have the same shapes; wave_000 of added runs is another one, too."""
    (tmp_path / "config.json").touch()
    places = [tmp_path / part / "checkpoints" for part in (".", "extensions/001")]
    folders = [places[0] / "wave_000" / kind, places[0] / "wave_001" / kind, places[1] / "wave_000" / kind]
    state = {"w": jnp.arange(RUNS * 3).reshape(RUNS, 3)}
    for folder in folders:
        with CheckpointWriter(folder) as writer:
            writer.save(4, state)
        assert_same_bits(restore(folder, 4, state), state)
    for other in folders[1:]:
        shutil.rmtree(folders[0] / "4")
        shutil.copytree(other / "4", folders[0] / "4")
        assert not is_intact(folders[0], 4)
        assert not equal_runs(folders[0], 4, state).any()
        expect_error("of another step or wave", lambda: restore(folders[0], 4, state))
        expect_error("of another step or wave", lambda: restore_run(folders[0], 4, state, 1))
    shutil.copytree(tmp_path / "checkpoints", tmp_path / "moved" / "checkpoints")
    assert is_intact(tmp_path / "moved" / "checkpoints" / "wave_001" / kind, 4)


def test_a_workdir_in_a_folder_of_the_user_that_is_named_extensions_may_be_moved(tmp_path):
    workdir, state = tmp_path / "extensions" / "007", {"w": jnp.arange(RUNS * 3).reshape(RUNS, 3)}
    workdir.mkdir(parents=True)
    (workdir / "config.json").touch()
    with CheckpointWriter(workdir / "checkpoints" / "wave_000" / "state") as writer:
        writer.save(4, state)
    write_npz(epath.Path(workdir) / "eval" / "wave_000" / "step_00000004.npz", {"x": np.zeros(1)})
    append_metrics(workdir / "metrics.jsonl", [{"run": 0, "step": 4}])
    workdir.rename(moved := tmp_path / "moved")
    assert is_intact(moved / "checkpoints" / "wave_000" / "state", 4)
    read_evaluation(moved / "eval" / "wave_000" / "step_00000004.npz", ("x",))
    assert read_metrics(moved / "metrics.jsonl") == [{"run": 0, "step": 4}]


@pytest.mark.parametrize("mark", ["7", ""])
def test_checkpoints_whose_checksums_leave_out_the_wave_or_the_step_are_read(mark, tmp_path):
    """Versions of 2026-11-29, and before, wrote them so."""
    state = {"w": jnp.arange(RUNS * 3).reshape(RUNS, 3)}
    tmp_path = tmp_path / "checkpoints" / "wave_000" / "params"
    write_older(tmp_path, 7, state, mark)
    assert_same_bits(restore(tmp_path, 7, state), state)
    assert equal_runs(tmp_path, 7, state).all()
    other = {"w": state["w"].at[1].add(1)}
    assert equal_runs(tmp_path, 7, other).tolist() == [True, False, True]


def test_unwritable_place_is_an_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    expect_error("cannot be written", lambda: CheckpointWriter(tmp_path / "file").save(3, make_state()))


_SMALL_DISK = """
import resource, sys
from checkpoints import *
from cspace_jax.errors import UserError
from cspace_jax.storage.checkpoint import CheckpointWriter, equal_runs, restore, steps
writer = CheckpointWriter(sys.argv[1])
writer.save(1, make_state())
writer.wait()
resource.setrlimit(resource.RLIMIT_FSIZE, (50, 50))
expect_error("/2: cannot be written", lambda: (writer.save(2, make_state()), writer.wait()))
writer.close()
assert steps(sys.argv[1]) == [1]
"""


def test_write_error_in_the_background_is_reported(tmp_path):
    run_script(_SMALL_DISK, tmp_path)


_FAILS_WHILE_TRAINING_GOES_ON = """
import resource, sys, time
from checkpoints import *
from cspace_jax.errors import UserError
from cspace_jax.storage.checkpoint import CheckpointWriter, equal_runs, restore, steps
writer = CheckpointWriter(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (50, 50))
try:
    writer.save(1, make_state())
except UserError:
    print("EARLY", file=sys.stderr)  # before it went on in the background
    sys.exit()
time.sleep(2.0)  # nobody waits yet
expect_error("/1: cannot be written", writer.wait)
"""


def test_a_save_that_fails_in_the_background_is_silent_until_it_is_waited_for(tmp_path):
    """Orbax and asyncio would print a traceback a write."""
    errors = run_script(_FAILS_WHILE_TRAINING_GOES_ON, tmp_path)
    if "EARLY" in errors:
        pytest.skip("the save failed before it went on in the background")
    assert "Traceback" not in errors and "Error" not in errors


def test_error_of_the_body_outlives_that_of_the_writer(tmp_path, monkeypatch):
    class Failing:
        def result(self):
            raise OSError("disk full")

    monkeypatch.setattr(checkpoint.ocp, "save_async", lambda *_: Failing())
    with pytest.raises(ZeroDivisionError), CheckpointWriter(tmp_path) as writer:
        writer.save(1, make_state())
        raise ZeroDivisionError
    with pytest.raises(UserError, match="disk full"), CheckpointWriter(tmp_path) as writer:
        writer.save(1, make_state())

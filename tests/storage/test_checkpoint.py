"""Checkpoints: bitwise, one run at a time, on other devices, and what is left of them after a kill or a bad disk."""

import errno
import gc
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cspace_jax.errors import UserError
from cspace_jax.storage import checkpoint, leaves, orbax_calls
from cspace_jax.storage.checkpoint import (
    CheckpointWriter,
    equal_runs,
    is_intact,
    latest_step,
    restore,
    restore_run,
    steps,
)

# Checkpoints are written and damaged by the dozen.
pytestmark = pytest.mark.system
RUNS = 3


def make_state(seed: int = 0, width: int = 5) -> dict:
    """A stacked state with every kind of leaf: optimiser containers, typed keys, scalars, flags, halves, NaN."""
    keys = jax.random.split(jax.random.key(seed), RUNS)
    params = {
        "conv": {"kernel": jax.vmap(lambda k: jax.random.normal(k, (3, width)))(keys)},
        "bias": jnp.array([jnp.nan, -0.0, 1e-42]),
    }
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))
    opt_state = jax.vmap(optimizer.init)(params)
    _, opt_state = jax.vmap(optimizer.update)(params, opt_state, params)
    half = jnp.arange(2.0 * RUNS, dtype=jnp.bfloat16).reshape(RUNS, 2)
    return {"params": params, "opt": opt_state, "key": keys, "half": half, "done": jnp.array([True, False, True])}


def abstract(state: dict) -> dict:
    return jax.eval_shape(lambda: state)


def raw(tree: dict) -> list[bytes]:
    data = jax.tree.map(lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x, tree)
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(data)]


def assert_same_bits(actual: dict, expected: dict) -> None:
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), actual) == jax.tree.map(lambda x: (x.shape, x.dtype), expected)
    assert raw(actual) == raw(expected)


def run_of(state: dict, run: int) -> dict:
    return jax.tree.map(lambda x: x[run], state)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "checkpoints"
    with CheckpointWriter(path) as writer:
        writer.save(500, make_state(0))
        writer.save(20, make_state(1))
    return path


def test_restores_every_bit(saved):
    state = make_state(0)
    restored = restore(saved, 500, abstract(state))
    assert_same_bits(restored, state)
    key = jax.random.fold_in(restored["key"][1], 7)
    np.testing.assert_array_equal(
        jax.random.normal(key, (4,)), jax.random.normal(jax.random.fold_in(state["key"][1], 7), (4,))
    )


def test_concrete_tree_serves_as_abstract_tree(saved):
    assert_same_bits(restore(saved, 500, make_state(1)), make_state(0))


def test_lists_steps_in_numeric_order(saved):
    assert steps(saved) == [20, 500]
    assert latest_step(saved) == 500


def test_nothing_saved_is_no_steps(tmp_path):
    assert steps(tmp_path / "missing") == []
    assert latest_step(tmp_path) is None


@pytest.mark.parametrize("run", range(RUNS))
def test_cuts_out_one_run(saved, run):
    assert_same_bits(restore_run(saved, 500, abstract(make_state()), run), run_of(make_state(0), run))


def test_cuts_out_one_run_piecewise(saved, monkeypatch):
    monkeypatch.setattr(checkpoint, "_GROUP_BYTES", 100)
    assert_same_bits(restore_run(saved, 500, abstract(make_state()), 1), run_of(make_state(0), 1))


def test_one_run_needs_no_number_of_runs(saved):
    any_runs = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype), abstract(make_state()))
    assert_same_bits(restore_run(saved, 500, any_runs, 2), run_of(make_state(0), 2))


def test_saving_again_replaces(tmp_path):
    with CheckpointWriter(tmp_path) as writer:
        writer.save(7, make_state(0))
        writer.save(7, make_state(1))
    assert_same_bits(restore(tmp_path, 7, abstract(make_state())), make_state(1))
    assert os.listdir(tmp_path) == ["7"]


def test_state_may_be_donated_during_and_after(tmp_path):
    step = jax.jit(lambda state: jax.tree.map(lambda x: x * 3 + 1, state), donate_argnums=0)
    state = {"w": jnp.arange(RUNS * 200_000, dtype=jnp.float32).reshape(RUNS, -1)}
    expected = jax.tree.map(np.array, state)
    with CheckpointWriter(tmp_path) as writer:
        for i in range(3):
            writer.save(i, state)
            state = step(state)
    for i in range(3):
        restored = restore(tmp_path, i, state)
        assert_same_bits(restored, expected)
        expected = jax.tree.map(lambda x: x * 3 + 1, expected)
        donated = step(restored)
        assert restored["w"].is_deleted()
        np.testing.assert_array_equal(donated["w"], expected["w"])


_OTHER_DEVICES = """
import os
os.environ["JAX_NUM_CPU_DEVICES"] = "8"  # with the parent's XLA_FLAGS, so that both draw the same bits
import jax
from test_checkpoint import *
last = jax.sharding.Mesh(jax.devices()[5:], ("runs",))  # three, none of which wrote it
sharding = jax.NamedSharding(last, jax.P("runs"))
target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), abstract(make_state()))
state = restore(sys.argv[1], 500, target)
assert all(len(x.sharding.device_set) == 3 for x in jax.tree.leaves(state))
assert_same_bits(state, make_state(0))
with CheckpointWriter(sys.argv[2]) as writer:
    writer.save(1, state)
"""


def script(code: str, *args: object) -> subprocess.Popen:
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def run_script(code: str, *args: object) -> str:
    """Run a script to its end, which must be a good one, and return its errors."""
    with script(code, *args) as child:
        _, errors = child.communicate()
    assert child.returncode == 0, errors
    return errors


def test_moves_between_devices(saved, tmp_path):
    """Written by one device, read and written by the last three of eight, read by one again."""
    run_script(_OTHER_DEVICES, saved, tmp_path)
    assert_same_bits(restore(tmp_path, 1, abstract(make_state())), make_state(0))
    assert_same_bits(restore_run(tmp_path, 1, abstract(make_state()), 2), run_of(make_state(0), 2))


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


def data_files(directory: Path) -> list[Path]:
    return sorted(p for p in directory.rglob("*") if p.is_file() and p.stat().st_size > 0)


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


@pytest.mark.parametrize("mark", ["7", ""])
def test_checkpoints_whose_checksums_leave_out_the_wave_or_the_step_are_read(mark, tmp_path, monkeypatch):
    """Versions of 2026-11-29, and before, wrote them so."""
    state = {"w": jnp.arange(RUNS * 3).reshape(RUNS, 3)}
    tmp_path = tmp_path / "checkpoints" / "wave_000" / "params"
    with monkeypatch.context() as older, CheckpointWriter(tmp_path) as writer:
        checksum = leaves.checksum
        older.setattr(leaves, "checksum", lambda arrays, _: checksum(arrays, mark))
        writer.save(7, state)
    assert_same_bits(restore(tmp_path, 7, state), state)
    assert equal_runs(tmp_path, 7, state).all()
    other = {"w": state["w"].at[1].add(1)}
    assert equal_runs(tmp_path, 7, other).tolist() == [True, False, True]


def test_restoring_and_comparing_keep_nothing_in_memory(tmp_path):
    """An evaluation restores hundreds of checkpoints in one process."""
    state = {f"leaf{i}": jnp.arange(RUNS * 3.0).reshape(RUNS, 3) + i for i in range(10)}
    with CheckpointWriter(tmp_path) as writer:
        writer.save(1, state)

    def objects_kept_by(repeats: int) -> int:
        gc.collect()
        before = len(gc.get_objects())
        for _ in range(repeats):
            restore(tmp_path, 1, state)
            equal_runs(tmp_path, 1, state)
        gc.collect()
        return len(gc.get_objects()) - before

    objects_kept_by(2)  # what is made once
    assert objects_kept_by(5) < 5 * len(state)


def expect_error(text: str, call) -> None:
    with pytest.raises(UserError) as caught:
        call()
    assert text in str(caught.value) and "\n" not in str(caught.value)


def test_missing_step_lists_the_steps(saved):
    expect_error(
        f"{saved}/21: there is no complete checkpoint of step 21; there are: 20, 500",
        lambda: restore(saved, 21, make_state()),
    )


@pytest.mark.parametrize("run", [-1, RUNS])
def test_missing_run_names_the_range(saved, run):
    expect_error(f"has no run {run}, only runs 0 to 2", lambda: restore_run(saved, 20, make_state(), run))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda s: s | {"ema": s["half"]}, "ema is absent there and bfloat16[3, 2] here (1 of"),
        (lambda s: {k: v for k, v in s.items() if k != "done"}, "done is bool[3] there and absent here (1 of"),
        (lambda s: s | {"done": jnp.zeros(RUNS)}, "done is bool[3] there and float32[3] here"),
        (
            lambda s: s | {"half": jnp.zeros((RUNS, 3), jnp.bfloat16)},
            "half is bfloat16[3, 2] there and bfloat16[3, 3] here",
        ),
        (lambda s: make_state(width=6), "mu/conv/kernel is float32[3, 3, 5] there and float32[3, 3, 6] here (3 of 10 "),
    ],
)
def test_misfit_names_the_entry(saved, change, text):
    wanted = abstract(change(make_state()))
    expect_error(text, lambda: restore(saved, 20, wanted))
    expect_error(text, lambda: restore_run(saved, 20, wanted, 0))


def test_other_number_of_runs_is_a_misfit(saved):
    wanted = abstract(run_of(make_state(), slice(0, 2)))
    expect_error("does not fit this configuration", lambda: restore(saved, 20, wanted))


def test_unwritable_place_is_an_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    expect_error("cannot be written", lambda: CheckpointWriter(tmp_path / "file").save(3, make_state()))


_SMALL_DISK = """
import resource, sys
from test_checkpoint import *
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
from test_checkpoint import *
writer = CheckpointWriter(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (50, 50))
try:
    writer.save(1, make_state())
except UserError:  # it may fail before it goes on in the background
    sys.exit()
time.sleep(2.0)  # nobody waits yet
expect_error("/1: cannot be written", writer.wait)
"""


def test_a_save_that_fails_in_the_background_is_silent_until_it_is_waited_for(tmp_path):
    """Orbax and asyncio would print a traceback a write."""
    errors = run_script(_FAILS_WHILE_TRAINING_GOES_ON, tmp_path)
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

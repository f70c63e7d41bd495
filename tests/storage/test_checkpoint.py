"""Checkpoints: bitwise, one run at a time, on other devices, and what is left of them after a kill or a bad disk."""

import gc
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checkpoints import RUNS, abstract, assert_same_bits, expect_error, make_state, run_of, run_script

from cspace_jax.storage import checkpoint
from cspace_jax.storage.checkpoint import (
    CheckpointWriter,
    equal_runs,
    latest_step,
    restore,
    restore_run,
    steps,
)

# Checkpoints are written and damaged by the dozen.
pytestmark = pytest.mark.system


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
import os, sys
os.environ["JAX_NUM_CPU_DEVICES"] = "8"  # with the parent's XLA_FLAGS, so that both draw the same bits
import jax
from checkpoints import *
from cspace_jax.errors import UserError
from cspace_jax.storage.checkpoint import CheckpointWriter, equal_runs, restore, steps
last = jax.sharding.Mesh(jax.devices()[5:], ("runs",))  # three, none of which wrote it
sharding = jax.NamedSharding(last, jax.P("runs"))
target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), abstract(make_state()))
state = restore(sys.argv[1], 500, target)
assert all(len(x.sharding.device_set) == 3 for x in jax.tree.leaves(state))
assert_same_bits(state, make_state(0))
with CheckpointWriter(sys.argv[2]) as writer:
    writer.save(1, state)
"""


def test_moves_between_devices(saved, tmp_path):
    """Written by one device, read and written by the last three of eight, read by one again."""
    run_script(_OTHER_DEVICES, saved, tmp_path)
    assert_same_bits(restore(tmp_path, 1, abstract(make_state())), make_state(0))
    assert_same_bits(restore_run(tmp_path, 1, abstract(make_state()), 2), run_of(make_state(0), 2))


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

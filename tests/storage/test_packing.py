"""Small leaves of a checkpoint in one array: every bit comes back, and an index that does not fit is damage."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checkpoints import RUNS, abstract, assert_same_bits, expect_error, make_state, run_of
from orbax.checkpoint import v1 as ocp

from cspace_jax.storage import checkpoint, leaves, packing
from cspace_jax.storage.checkpoint import CheckpointWriter, equal_runs, is_intact, restore, restore_run
from cspace_jax.storage.packing import Contents

CUTS = {"all": (2**18, 2**28), "none": (0, 2**28), "some": (20, 2**28), "many packs": (2**18, 100)}


@pytest.fixture(params=CUTS)
def cut(request, monkeypatch):
    """What counts as small, and how large a pack becomes."""
    for name, value in zip(("SMALL_BYTES", "PACK_BYTES"), CUTS[request.param], strict=True):
        monkeypatch.setattr(packing, name, value)
    return request.param


def test_leaves_come_back_bit_for_bit(cut):
    arrays = leaves.on_host(make_state())
    contents = Contents.of(arrays)
    stored = packing.pack(arrays, contents)
    packed = {member.name for members in contents.packs.values() for member in members}
    assert (packed == arrays.keys()) == (cut in ("all", "many packs")) and (not packed) == (cut == "none")
    assert len(contents.packs) == {"all": 1, "none": 0, "some": 1}.get(cut, len(contents.packs))
    assert cut != "many packs" or len(contents.packs) > 3
    assert {name: (array.shape, array.dtype) for name, array in stored.items()} == {
        name: (form.shape, form.dtype) for name, form in contents.stored.items()
    }
    again = Contents.found(contents.stored, contents.index.tobytes())
    assert again.packs == contents.packs and list(again.forms) != [] and again.forms.keys() == contents.forms.keys()
    for name, array in packing.unpack(stored, again, arrays).items():
        assert array.dtype == arrays[name].dtype and array.shape == arrays[name].shape
        assert array.tobytes() == arrays[name].tobytes()


def test_checkpoints_of_any_cut_are_read(cut, tmp_path, monkeypatch):
    """Whatever this version would pack: another may have cut otherwise."""
    state = make_state(3)
    with CheckpointWriter(tmp_path) as writer:
        writer.save(4, state)
    for limits in CUTS.values():
        for name, value in zip(("SMALL_BYTES", "PACK_BYTES"), limits, strict=True):
            monkeypatch.setattr(packing, name, value)
        assert_same_bits(restore(tmp_path, 4, abstract(state)), state)
    assert_same_bits(restore_run(tmp_path, 4, abstract(state), 2), run_of(state, 2))
    monkeypatch.setattr(checkpoint, "_GROUP_BYTES", 1)
    assert_same_bits(restore_run(tmp_path, 4, abstract(state), 0), run_of(state, 0))
    assert is_intact(tmp_path, 4) and equal_runs(tmp_path, 4, state).all()


def test_checkpoints_without_an_index_are_read(tmp_path):
    """Versions before 2026-11-30 wrote every leaf by itself."""
    state = make_state(3)
    arrays = leaves.on_host(state)
    ocp.save(tmp_path / "4", {"leaves": arrays, "crc32": leaves.checksum(arrays, "4")})
    assert_same_bits(restore(tmp_path, 4, abstract(state)), state)
    assert_same_bits(restore_run(tmp_path, 4, abstract(state), 1), run_of(state, 1))
    assert is_intact(tmp_path, 4) and equal_runs(tmp_path, 4, state).all()
    other = state | {"done": ~state["done"]}
    assert not equal_runs(tmp_path, 4, other).any()
    expect_error("a is absent there", lambda: restore(tmp_path, 4, {"a": state["half"]}))


@pytest.mark.parametrize(
    "index",
    [
        {"pack 0": [["w", "float32", [4]]]},  # one number more than there is
        {"pack 0": [["w", "object", [3]]]},
        {"pack 0": [["w", "float32", [-1, -3]]]},
        {"pack 0": [["w", "float33", [3]]]},
        {"pack 0": [["w"]]},
        {"pack 0": [["w", "float32", 3]]},
        {"pack 1": [["w", "float32", [3]]]},
        ["pack 0"],
        "w",
    ],
)
def test_an_index_that_does_not_fit_is_damage(index, tmp_path):
    state = {"w": jnp.ones((RUNS, 3))}
    arrays = leaves.on_host(state)
    stored = packing.pack(arrays, Contents.of(arrays))
    text = np.frombuffer(json.dumps(index).encode(), np.uint8)
    ocp.save(tmp_path / "4", {"leaves": stored, "crc32": leaves.checksum(arrays, "4"), "index": text})
    assert not is_intact(tmp_path, 4)
    for read in (
        lambda: restore(tmp_path, 4, state),
        lambda: restore_run(tmp_path, 4, state, 1),
        lambda: checkpoint.checksums(tmp_path, 4),
    ):
        expect_error("is damaged (the index of its small leaves cannot be read)", read)


def test_exchanged_names_are_damage(tmp_path):
    """The checksums are over the leaves in the order of their names, not over the arrays that hold them."""
    state = {"a": jnp.ones((RUNS, 3)), "b": jnp.zeros((RUNS, 3))}
    arrays = leaves.on_host(state)
    contents = Contents.of(arrays)
    text = contents.index.tobytes().replace(b'"a"', b'"c"').replace(b'"b"', b'"a"').replace(b'"c"', b'"b"')
    stored = {"leaves": packing.pack(arrays, contents), "crc32": leaves.checksum(arrays, "4")}
    ocp.save(tmp_path / "4", stored | {"index": np.frombuffer(text, np.uint8)})
    expect_error("checksums differ", lambda: restore(tmp_path, 4, state))


def test_leaves_of_no_entries_lie_by_themselves():
    forms = {"empty": jax.ShapeDtypeStruct((RUNS, 0), np.float32), "one": jax.ShapeDtypeStruct((RUNS,), np.float32)}
    contents = Contents.of(forms)
    assert contents.stored.keys() == {"empty", "pack 0"} and contents.holding(["empty"]) == {"empty": ["empty"]}

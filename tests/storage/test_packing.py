"""Small leaves of a checkpoint in one array: every bit comes back, and an index that does not fit is damage."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from checkpoints import RUNS, abstract, assert_same_bits, expect_error, make_state, run_of, write_older
from orbax.checkpoint import v1 as ocp

from cspace_jax.storage import checkpoint, leaves, packing
from cspace_jax.storage.checkpoint import CheckpointWriter, equal_runs, is_intact, restore, restore_run
from cspace_jax.storage.packing import Contents

CUTS = {"all": (2**16, 2**28), "none": (0, 2**28), "some": (20, 2**28), "many packs": (2**16, 100)}
HOSTILE = {
    "one number more than there is": '{"pack 0": [["w", "float32", [4]]]}',
    "objects": '{"pack 0": [["w", "object", [3]]]}',
    "lengths below zero": '{"pack 0": [["w", "float32", [-1, -3]]]}',
    "no length": '{"pack 0": [["w", "float32", [3, true]]]}',
    "no type": '{"pack 0": [["w", "float33", [3]]]}',
    "no end": '{"pack 0": [["w", "(3,f4", [1]]]}',
    "a type with a shape": '{"pack 0": [["w", "(3,)f4", [1]]]}',
    "a type without bytes": '{"pack 0": [["w", "float32", [3]], ["v", "bytes", [3]]]}',
    "a length too large": '{"pack 0": [["w", "float32", [3]], ["v", "float32", [0, 99999999999999999999]]]}',
    "axes without end": '{"pack 0": [["w", "float32", [3]], ["v", "float32", [0' + ", 1" * 80 + "]]]}",
    "another kind of name": '{"pack 0": [["w", "float", [3]]]}',
    "no name": '{"pack 0": [[null, "float32", [3]]]}',
    "a member cut short": '{"pack 0": [["w"]]}',
    "a shape without axes": '{"pack 0": [["w", "float32", 3]]}',
    "no members": '{"pack 0": []}',
    "another pack": '{"pack 1": [["w", "float32", [3]]]}',
    "a list": '["pack 0"]',
    "a word": '"w"',
    "nothing": "{}",
    "a blank": " ",
    "no JSON": "pack 0",
    "a thousand lists": "[" * 100_000,
    "no text": "\udcff",
}


@pytest.fixture(params=CUTS)
def cut(request, monkeypatch):
    """What counts as small, and how large a pack becomes."""
    for name, value in zip(("SMALL_BYTES", "PACK_BYTES"), CUTS[request.param], strict=True):
        monkeypatch.setattr(packing, name, value)
    return request.param


def written(folder, step=4, state=None, crc=None, **changes):
    """Save a state as Orbax alone would, with changes to what is stored; None leaves something out."""
    arrays = leaves.on_host({"w": jnp.arange(3.0 * RUNS).reshape(RUNS, 3)} if state is None else state)
    contents = Contents.of(arrays)
    mark = f"{step} {contents.index}" if crc is None else crc
    stored = {"leaves": packing.pack(arrays, contents), "crc32": leaves.checksum(arrays, mark)}
    stored |= {"index": np.frombuffer(contents.index.encode(), np.uint8)} | changes
    ocp.save(folder / str(step), {name: one for name, one in stored.items() if one is not None})


def readers(folder, state, step=4):
    """All ways of reading a checkpoint of a step."""
    return (
        lambda: restore(folder, step, state),
        lambda: restore_run(folder, step, state, 1),
        lambda: checkpoint.checksums(folder, step),
    )


@pytest.mark.parametrize("runs", [1, RUNS])
def test_leaves_come_back_bit_for_bit(cut, runs):
    arrays = {name: array[:runs] for name, array in leaves.on_host(make_state()).items()}
    contents = Contents.of(arrays)
    stored = packing.pack(arrays, contents)
    packed = {member.name for members in contents.packs.values() for member in members}
    assert (packed == arrays.keys()) == (cut in ("all", "many packs")) and (not packed) == (cut == "none")
    assert len(contents.packs) == {"all": 1, "none": 0, "some": 1}.get(cut, len(contents.packs))
    assert cut != "many packs" or len(contents.packs) > (1 if runs == 1 else 3)
    assert {name: (array.shape, array.dtype) for name, array in stored.items()} == {
        name: (form.shape, form.dtype) for name, form in contents.stored.items()
    }
    again = Contents.found(contents.stored, contents.index)
    assert again.packs == contents.packs and not leaves.misfit(again.forms, arrays)
    some = list(arrays)[1::2]
    for names in (list(arrays), some):
        found = packing.unpack(dict(stored), again, names)
        assert list(found) == names
        for name, array in found.items():
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


def test_checkpoints_without_an_index_are_read(tmp_path, monkeypatch):
    state = make_state(3)
    write_older(tmp_path, 4, state, "4")
    assert is_intact(tmp_path, 4)
    assert_same_bits(restore_run(tmp_path, 4, abstract(state), 1), run_of(state, 1))
    other = state | {"done": ~state["done"]}
    expect_error("a is absent there", lambda: restore(tmp_path, 4, {"a": state["half"]}))
    monkeypatch.setattr(checkpoint.ocp, "metadata", lambda *_: pytest.fail("describing keeps memory"))
    assert_same_bits(restore(tmp_path, 4, abstract(state)), state)
    assert equal_runs(tmp_path, 4, state).all() and not equal_runs(tmp_path, 4, other).any()


@pytest.mark.parametrize("index", HOSTILE)
def test_an_index_that_does_not_fit_is_damage(index, tmp_path):
    text = np.frombuffer(HOSTILE[index].encode(errors="surrogateescape"), np.uint8)
    written(tmp_path, index=text)
    assert not is_intact(tmp_path, 4)
    for read in readers(tmp_path, {"w": jnp.zeros((RUNS, 3))}):
        expect_error("is damaged (its description cannot be read)", read)


def test_a_long_index_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "INDEX_BYTES", 10)
    written(tmp_path)
    expect_error("is damaged (its description cannot be read)", lambda: checkpoint.checksums(tmp_path, 4))


@pytest.mark.parametrize("shape", [(RUNS, 11), (RUNS, 24), (RUNS * 12,), (RUNS, 4, 3)])
def test_a_pack_of_another_shape_is_damage(shape, tmp_path):
    written(tmp_path, leaves={"pack 0": np.zeros(shape, np.uint8)})
    for read in readers(tmp_path, {"w": jnp.zeros((RUNS, 3))}):
        expect_error("is damaged", read)


@pytest.mark.parametrize("changes", [{"index": None}, {"leaves": np.zeros(3)}, {"crc32": None}])
def test_what_is_missing_is_damage(changes, tmp_path):
    """The bytes of a pack alone have the checksum of the leaves, whose order is that of their names."""
    written(tmp_path, crc="4", **changes)
    for read in readers(tmp_path, {"w": jnp.zeros((RUNS, 3))}):
        expect_error("is damaged", read)


def test_another_cut_of_the_same_bytes_is_damage(tmp_path):
    state = {"a": jnp.ones((RUNS, 3)), "b": jnp.zeros((RUNS, 3))}
    for step, (names, lengths) in enumerate([("ba", (3, 3)), ("ab", (2, 4))]):
        members = [[name, "float32", [length]] for name, length in zip(names, lengths, strict=True)]
        text = json.dumps({"pack 0": members}).encode()
        written(tmp_path, step, state, index=np.frombuffer(text, np.uint8))
        assert not is_intact(tmp_path, step)
        for read in readers(tmp_path, state, step):
            expect_error("is damaged (checksums differ", read)
    written(tmp_path, 7, state)
    assert_same_bits(restore(tmp_path, 7, state), state)


def test_leaves_that_are_rare_come_back_too(tmp_path):
    """Without entries (Orbax saves none by itself), and with the bytes of numbers in the other order, which a name of a
    type does not tell.
    """
    state = {"empty": np.zeros((RUNS, 0), np.float32), "one": np.arange(RUNS), "other": np.arange(RUNS).astype(">f4")}
    contents = Contents.of(state)
    assert contents.stored.keys() == {"other", "pack 0"} and contents.holding(["empty"]) == {"pack 0": ["empty"]}
    found = packing.unpack(packing.pack(state, contents), contents, state)
    assert all(found[name].tobytes() == array.tobytes() for name, array in state.items())
    with pytest.raises(AssertionError, match="name of a pack"):
        Contents.of({"pack 0": np.zeros((RUNS, 2**16)), "one": np.zeros(RUNS)})

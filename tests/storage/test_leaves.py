"""Leaves of a state: names, forms, and checksums of every run that no exchange passes."""

import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cspace_jax.storage import leaves

RUNS = 3


@pytest.fixture
def arrays():
    return {"b": np.arange(6.0).reshape(3, 2), "a": np.array([1, 2, 3], np.int16)}


def test_keys_are_stored_as_their_data_under_plain_names():
    params = {"conv": {"kernel": jnp.arange(6.0).reshape(RUNS, 2)}, "half": jnp.zeros(RUNS, jnp.bfloat16)}
    state = {"params": params, "key": jax.random.split(jax.random.key(0), RUNS)}
    stored = leaves.on_host(state)
    assert list(stored) == ["key", "params/conv/kernel", "params/half"]
    np.testing.assert_array_equal(stored["key"], jax.random.key_data(state["key"]))
    forms = {name: leaves.form(leaf) for name, leaf in leaves.named(state).items()}
    assert {name: (array.shape, array.dtype) for name, array in stored.items()} == {
        name: (form.shape, form.dtype) for name, form in forms.items()
    }
    assert forms["key"].shape == (RUNS, 2) and forms["key"].dtype == jnp.uint32


def test_a_checksum_is_that_of_a_mark_and_of_the_bytes_of_one_run(arrays):
    found = leaves.checksum(arrays, "7")
    expected = [zlib.crc32(b"7" + arrays["a"][r].tobytes() + arrays["b"][r].tobytes()) for r in range(3)]
    assert found.tolist() == expected and found.dtype == np.uint32
    assert leaves.checksum(dict(reversed(arrays.items())), "7").tolist() == expected
    arrays["b"][1, 0] += 1
    assert (leaves.checksum(arrays, "7") == found).tolist() == [True, False, True]


def test_runs_fit_under_any_of_the_marks(arrays):
    crc = leaves.checksum(arrays, "old")
    crc[2] = leaves.checksum(arrays, "new")[2]
    assert leaves.as_stored(arrays, ("new", "old"), crc).all()
    assert leaves.as_stored(arrays, ("new",), crc).tolist() == [False, False, True]
    assert not leaves.as_stored(arrays, ("new", "old"), crc[:2]).any()


def test_a_misfit_names_the_first_leaf_and_counts_all(arrays):
    wanted = {name: jax.ShapeDtypeStruct(array.shape, array.dtype) for name, array in arrays.items()}
    assert leaves.misfit(arrays, wanted) == ""
    two = {name: array[:2] for name, array in arrays.items()}
    assert leaves.misfit(two, wanted) == "b is float64[2, 2] there and float64[3, 2] here (2 of 2 entries differ)"
    assert leaves.misfit(two, wanted, skip_axes=1) == ""
    more = {**arrays, "c": np.zeros(3)}
    assert leaves.misfit(more, wanted) == "c is float64[3] there and absent here (1 of 3 entries differ)"

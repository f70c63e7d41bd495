"""A batch in parts: sums and rows are those of the whole batch, whatever the number of parts."""

import numpy as np
import pytest

from cspace_jax.training import microbatch

BATCH = {"x": np.arange(36.0, dtype=np.float32).reshape(12, 3), "none": None, "k": np.arange(12, dtype=np.uint32)}


@pytest.mark.parametrize("size", [1, 2, 3, 4, 6, 12])  # 12, 6, 4, 3, 2 and 1 parts
def test_sums_and_rows_are_those_of_the_batch(size):
    sizes = []

    def function(part):
        sizes.append(len(part["x"]))
        return {"sum": (part["x"] * part["k"][:, None]).sum(0)}, (part["x"] + 1, part["k"])

    sums, (rows, keys) = microbatch.map_microbatches(function, BATCH, size)
    assert set(sizes) == {size}
    np.testing.assert_array_equal(sums["sum"], (BATCH["x"] * BATCH["k"][:, None]).sum(0))
    np.testing.assert_array_equal(rows, BATCH["x"] + 1)
    np.testing.assert_array_equal(keys, BATCH["k"])

"""What arrays take in a TPU's memory, against what libtpu 0.0.52 says of a v5e's programs."""

import pytest

import cspace_jax as cs
from cspace_jax.config.plan import Plan
from cspace_jax.cost import memory, tiles


@pytest.mark.parametrize(
    ("shape", "itemsize", "size"),
    [
        ((), 4, 512),
        ((0, 3), 4, 512),
        ((200,), 4, 1024),  # T(256)
        ((5222,), 4, 24576),  # T(1024)
        ((5222,), 1, 6144),
        ((3,), 1, 512),
        ((13, 3), 4, 2048),  # {0,1:T(4,128)}: the runs are the minor dimension
        ((13, 128), 4, 8192),
        ((13, 11, 64), 4, 90112),  # {2,0,1:T(8,128)}
        ((13, 2, 2), 4, 2048),  # {0,2,1:T(2,128)}
        ((8, 64, 32, 32, 64), 4, 268435456),  # 64 channels take the place of 128
        ((12, 5222), 1, 83968),  # {1,0:T(8,128)(4,1)}
        ((16, 28, 28, 1), 1, 57344),
        ((1000, 64, 64, 3), 1, 12582912),
    ],
)
def test_arrays_are_padded_as_a_tpus_compiler_does(shape, itemsize, size):
    assert tiles.padded_bytes(shape, itemsize) == size


# Arguments of the training program, without the two numbers of steps; two more take 512 bytes each.
@pytest.mark.parametrize(("study", "size"), [("signal:quick", 136_184_320), ("signal:paper", 1_053_746_688)])
def test_what_stays_of_eight_runs_is_what_the_compiler_says_to_the_byte(study, size):
    config = cs.load_config(study)
    found = memory.outline(config, Plan.resolve(config, "tpu"), True)
    assert 8 * found.resident + 2 * tiles.padded_bytes((), 4) == size

"""A state with every kind of leaf, and scripts that save it in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from orbax.checkpoint import v1 as ocp

from cspace_jax.errors import UserError
from cspace_jax.storage import leaves

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


def write_older(folder: Path, step: int, state: dict, mark: str) -> None:
    """Write every leaf by itself, as versions before 2026-11-30 did, with checksums that begin with `mark`."""
    arrays = leaves.on_host(state)
    ocp.save(folder / str(step), {"leaves": arrays, "crc32": leaves.checksum(arrays, mark)})


def raw(tree: dict) -> list[bytes]:
    data = jax.tree.map(lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x, tree)
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(data)]


def assert_same_bits(actual: dict, expected: dict) -> None:
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), actual) == jax.tree.map(lambda x: (x.shape, x.dtype), expected)
    assert raw(actual) == raw(expected)


def run_of(state: dict, run: int) -> dict:
    return jax.tree.map(lambda x: x[run], state)


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


def data_files(directory: Path) -> list[Path]:
    return sorted(p for p in directory.rglob("*") if p.is_file() and p.stat().st_size > 0)


def expect_error(text: str, call) -> None:
    with pytest.raises(UserError) as caught:
        call()
    assert text in str(caught.value) and "\n" not in str(caught.value)

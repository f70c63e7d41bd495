"""The numbers of the reference implementation (tests/golden) against what the device of this process computes.

Differences are relative to the largest reference number of an array, for gradients to that of each parameter's array.
That of the optimiser's step is relative to the length of the whole step, because the sign of an entry can hang on the
rounding of its gradient.
"""

import functools
import math
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cspace_jax.config import DiffusionConfig, NetworkConfig, OptimConfig
from cspace_jax.config.schema import CONCEPTS
from cspace_jax.data import rendering
from cspace_jax.data.concepts import ConceptVector, conditioning
from cspace_jax.model import torch_weights, vdm
from cspace_jax.training import optimizer

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "tests" / "golden"
NETWORK = NetworkConfig(channels=(8, 16), blocks=2, groups=8, heads=4, dropout=0.1)
DATA_NOISE = 1e-3
PRECISIONS = ("float32", "default")
_SMALL = 1e-3  # share of the largest gradient added to the size of each: some are zero but for rounding
# Name -> largest difference allowed in float32 (that of the tests on a CPU), and at the device's default precision:
# about four times what a CPU gives where the factors of all products are rounded to bfloat16.
TOLERANCES = {
    "images": (1e-6, 6e-3),
    "conditionings": (0.0, 0.0),
    "network output": (1e-5, 3e-2),
    "loss": (1e-5, 1e-4),
    "gradient": (1e-4, 4e-1),
    "optimiser step": (2e-3, 3e-1),
    "samples": (1e-4, 2e-1),
    "guided samples": (1e-4, 2e-1),
}


def read(name: str) -> dict[str, np.ndarray]:
    """Return the arrays of a file of reference numbers."""
    with np.load(GOLDEN / f"{name}.npz") as arrays:
        return dict(arrays)


def nhwc(x: np.ndarray) -> jax.Array:
    """Return images of the reference, [..., c, h, w], with channels last."""
    return jnp.asarray(np.moveaxis(x, -3, -1))


def tree(golden: dict[str, np.ndarray], prefix: str, model: vdm.Vdm) -> dict:
    """Return the arrays whose names start with `prefix` as a tree of parameters."""
    state = {k.removeprefix(prefix): v for k, v in golden.items() if k.startswith(prefix)}
    return torch_weights.vdm_params(model.network, state)


def network_times(golden: dict[str, np.ndarray]) -> jax.Array:
    """Return the gammas that the network's output was computed at."""
    return jnp.asarray(golden["unet_t"]) * 15.0 - 5.0


def loss_noise(golden: dict[str, np.ndarray]) -> vdm.LossNoise:
    """Return the times and noises of the loss."""
    batch = len(golden["x"])
    times = jnp.asarray(golden["loss_t0"] + np.arange(batch) / batch, jnp.float32)
    return vdm.LossNoise(t=times, eps=nhwc(golden["loss_noise"]), eps_0=nhwc(golden["loss_noise0"]))


def mean_loss(model: vdm.Vdm, params: dict, golden: dict[str, np.ndarray]) -> tuple[jax.Array, vdm.LossTerms]:
    """Return the mean loss in bits per dimension, and its terms."""
    terms = vdm.loss_terms(model, params, DATA_NOISE, nhwc(golden["x"]), jnp.asarray(golden["c"]), loss_noise(golden))
    return terms.total.mean(), terms


def step(params: dict, gradients: dict) -> dict:
    """Return the parameters after one clipped AdamW step."""
    transform = optimizer.make_optimizer(OptimConfig(clip=0.01), learning_rate=1e-3, weight_decay=0.01)
    updates, _ = transform.update(gradients, transform.init(params), params)
    return jax.tree.map(jnp.add, params, updates)


def differences(precision: str, convolution: str) -> dict[str, float]:
    """Return the difference of each number of `TOLERANCES`; compiles two programs.

    Args:
      precision: of products, "default" or one of JAX's `jax_default_matmul_precision`.
      convolution: how convolutions are computed, one of `convolution.METHODS`.
    """
    model = vdm.Vdm.from_config(NETWORK, DiffusionConfig(p_uncond=0.1), convolution)
    golden, dgp = read("vdm_small"), read("dgp")
    params = jax.tree.map(jnp.asarray, tree(golden, "param/", model))
    with jax.default_matmul_precision(None if precision == "default" else precision):
        found = jax.device_get(jax.jit(functools.partial(_numbers, model, golden=golden))(params))
        drawn = jax.device_get(jax.jit(functools.partial(_images, dgp=dgp))())
    return _compare(model, golden, found) | {
        "images": float(np.abs(drawn[0] - dgp["image_HWC"]).max()),
        "conditionings": float(np.abs(drawn[1] - dgp["conditioning"]).max()),
    }


def _images(dgp: dict[str, np.ndarray]) -> tuple[jax.Array, jax.Array]:
    fields = {name: jnp.asarray(dgp[name], jnp.int32 if name == "shape" else jnp.float32) for name in CONCEPTS}
    vector = ConceptVector(**fields)
    return rendering.render(vector, 32, 1.0), conditioning(CONCEPTS, vector)


def _numbers(model: vdm.Vdm, params: dict, golden: dict[str, np.ndarray]) -> dict[str, Any]:
    """Compute everything that the reference's file of the diffusion model holds."""
    c = jnp.asarray(golden["c"])
    gradients, terms = jax.grad(lambda p: mean_loss(model, p, golden), has_aux=True)(params)
    return {
        "network output": vdm.eps_hat(model, params, nhwc(golden["unet_z"]), network_times(golden), c),
        "loss": terms.total,
        "gradient": gradients,
        "step": step(params, gradients),
        "samples": _draw(model, params, golden, "sample", None),
        "guided samples": _draw(model, params, golden, "sample_cfg_w2", 2.0),
    }


def _draw(model: vdm.Vdm, params: dict, golden: dict[str, np.ndarray], name: str, guidance: float | None) -> jax.Array:
    noise, c = nhwc(golden[f"{name}_noise"]), jnp.asarray(golden["c"])
    steps = len(noise)

    def one(i: jax.Array, z: jax.Array) -> jax.Array:
        return vdm.sample_step(model, params, z, c, noise[i], i, steps, guidance)

    return jax.lax.fori_loop(0, steps, one, nhwc(golden["sample_z1"]))


def _compare(model: vdm.Vdm, golden: dict[str, np.ndarray], found: dict[str, Any]) -> dict[str, float]:
    before, after, gradient = (tree(golden, p, model) for p in ("param/", "param_after_step/", "grad/"))
    small = _SMALL * max(np.abs(leaf).max() for leaf in jax.tree.leaves(gradient["network"]))
    each = jax.tree.map(functools.partial(_difference, floor=small), found["gradient"], gradient)
    missed, length = (_norm(jax.tree.map(np.subtract, after, other)) for other in (found["step"], before))
    images = {"network output": "unet_eps_hat", "samples": "sample_out", "guided samples": "sample_cfg_w2_out"}
    return {
        "loss": _difference(found["loss"], golden["loss_elbo"]),
        "gradient": max(jax.tree.leaves(each)),
        "optimiser step": missed / length,
        **{name: _difference(found[name], np.moveaxis(golden[key], 1, -1)) for name, key in images.items()},
    }


def _difference(ours: np.ndarray, theirs: np.ndarray, floor: float = 0.0) -> float:
    return float(np.abs(ours - theirs).max() / (np.abs(theirs).max() + floor))


def _norm(tree: Any) -> float:
    return math.sqrt(sum(float(np.sum(np.square(leaf))) for leaf in jax.tree.leaves(tree)))

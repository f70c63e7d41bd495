"""U-Net, loss, gradients, one optimiser step and the sampler against numbers of the reference implementation.

`golden/vdm_small.npz` holds random weights and inputs put through the reference implementation (see golden/README.md).
If one of these tests fails after a change, the change altered the model, not only its speed.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sampler

from cspace_jax.config import DiffusionConfig
from cspace_jax.model import vdm
from cspace_jax.model.convolution import METHODS
from cspace_jax.training import optimizer
from experiments.golden import NETWORK, mean_loss, network_times, nhwc, read, step, tree

pytestmark = pytest.mark.network


@pytest.fixture(scope="module")
def golden():
    return read("vdm_small")


@pytest.fixture(scope="module", params=METHODS)
def model(request):
    return vdm.Vdm.from_config(NETWORK, DiffusionConfig(p_uncond=0.1), request.param)


@pytest.fixture(scope="module")
def params(golden, model):
    return jax.tree.map(jnp.asarray, tree(golden, "param/", model))


@pytest.fixture(scope="module")
def gradients(golden, model, params):
    return jax.jit(jax.grad(lambda p: mean_loss(model, p, golden)[0]))(params)


# Outputs and gradients are compared for every way of computing convolutions, the rest for the two that studies take
# unless told otherwise.
usual = pytest.mark.parametrize("model", ["xla", "winograd"], indirect=True)


def relative_error(ours, theirs):
    return np.max(np.abs(np.asarray(ours) - theirs)) / np.max(np.abs(theirs))


def test_network_output(golden, model, params):
    ours = jax.jit(vdm.eps_hat, static_argnums=0)(
        model, params, nhwc(golden["unet_z"]), network_times(golden), jnp.asarray(golden["c"])
    )
    assert relative_error(ours, np.moveaxis(golden["unet_eps_hat"], 1, -1)) < 1e-5


@usual
def test_loss_terms(golden, model, params):
    mean, terms = jax.jit(mean_loss, static_argnums=0)(model, params, golden)
    np.testing.assert_allclose(terms.diffusion, golden["loss_diffusion_loss"], rtol=1e-5)
    # The latent term is a difference of numbers of order one that cancels to 2e-5 bits: float32 leaves 1e-4 of it.
    np.testing.assert_allclose(terms.latent, golden["loss_latent_loss"], rtol=1e-5, atol=2e-9)
    np.testing.assert_allclose(terms.reconstruction, golden["loss_reconstruction_loss"], rtol=1e-5)
    np.testing.assert_allclose(terms.total, golden["loss_elbo"], rtol=1e-5)
    np.testing.assert_allclose(mean, golden["loss_mean"], rtol=1e-5)


def test_every_gradient(golden, model, gradients):
    theirs = tree(golden, "grad/", model)
    # Some true gradients are zero: with one channel a group, a normalisation removes whatever a projection adds. There
    # both sides hold rounding noise, so errors below 1e-7 of the largest network gradient do not count.
    floor = 1e-7 * max(np.abs(leaf).max() for leaf in jax.tree.leaves(theirs["network"]))

    def check(path, a, b):
        np.testing.assert_allclose(
            a, b, rtol=0, atol=1e-4 * np.abs(b).max() + floor, err_msg=jax.tree_util.keystr(path)
        )

    jax.tree_util.tree_map_with_path(check, gradients, theirs)


@usual
def test_one_clipped_adamw_step(golden, model, params, gradients):
    stepped = jax.jit(step)(params, gradients)  # op by op, hundreds of small programs would be compiled
    theirs = tree(golden, "param_after_step/", model)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=2e-6), stepped, theirs)
    np.testing.assert_allclose(optimizer.global_norm(gradients), golden["grad_global_norm"], rtol=1e-5)
    clipped = optimizer.clip_by_global_norm(gradients, 0.01)["schedule"]
    np.testing.assert_allclose(clipped["b"], golden["grad_b"], rtol=1e-5)
    np.testing.assert_allclose(clipped["w"], golden["grad_w"], rtol=1e-4)


@usual
@pytest.mark.parametrize(("key", "guidance"), [("sample", 1.0), ("sample_cfg_w2", 2.0)])
def test_ancestral_samples(golden, model, params, key, guidance):
    noises = jnp.concatenate([nhwc(golden["sample_z1"])[None], nhwc(golden[f"{key}_noise"])])
    ours = sampler.draw(model, params, jnp.asarray(golden["c"]), lambda i: noises[i], 4, guidance)
    theirs = np.moveaxis(golden[f"{key}_out"], 1, -1)
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())


@usual
def test_guidance_of_one_is_plain_conditioning(golden, model, params):
    z, c = nhwc(golden["unet_z"]), jnp.asarray(golden["c"])
    plain, one = (jax.jit(lambda p, w=w: vdm.guided_eps(model, p, z, jnp.zeros(4), c, w))(params) for w in (None, 1.0))
    np.testing.assert_allclose(one, plain, atol=1e-5)

"""U-Net, loss, gradients, one optimiser step and the sampler against numbers of the reference implementation.

`golden/vdm_small.npz` holds random weights and inputs put through the reference implementation (see golden/README.md).
If one of these tests fails after a change, the change altered the model, not only its speed.
"""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sampler
import tiny

from cspace_jax.config import DiffusionConfig
from cspace_jax.config.schema import CONDITIONINGS
from cspace_jax.errors import UserError
from cspace_jax.model import torch_weights, vdm
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


def state_of(golden, dropout=True, learned=True):
    """The weights under the reference's names, as a model without dropout or with a fixed schedule would hold them."""
    state = {k.removeprefix("param/"): v for k, v in golden.items() if k.startswith("param/")}
    if not dropout:
        state = {k.replace(".net2.3.", ".net2.2."): v for k, v in state.items()}
    return {k: v for k, v in state.items() if learned or not k.startswith("gamma.")}


@pytest.mark.parametrize("schedule", ["learned_linear", "fixed_linear"])
@pytest.mark.parametrize("dropout", [0.1, 0.0])
def test_weights_with_and_without_dropout_and_a_learned_schedule(golden, dropout, schedule):
    network = dataclasses.replace(NETWORK, dropout=dropout)
    model = vdm.Vdm.from_config(network, DiffusionConfig(schedule=schedule), "xla")
    learned = schedule == "learned_linear"
    state = state_of(golden, dropout > 0, learned)
    found = torch_weights.vdm_params(model.network, state, schedule)
    shapes = jax.eval_shape(lambda key: vdm.init_params(model, key), jax.random.key(0))
    assert jax.tree.map(np.shape, found) == jax.tree.map(np.shape, shapes)
    usual = tree(golden, "param/", model)
    tiny.assert_same_bits(found["network"], usual["network"])
    tiny.assert_same_bits(torch_weights.vdm_params(model.network, state), found)
    if learned:
        assert found["schedule"] == {"b": golden["param/gamma.b"], "w": golden["param/gamma.w"]}
    low, high = vdm.gamma(model, jax.tree.map(jnp.asarray, found), np.array([0.0, 1.0]))
    assert (float(low), float(high)) == ((-6.25, 9.25) if learned else (-5.0, 10.0))


def of_kind(golden, conditioning):
    """The weights with other arrays for a kind of conditioning, named and laid out as in the reference."""
    draw = np.random.default_rng(0).standard_normal
    source, kind = conditioning.split("_")
    state = {name: array for name, array in state_of(golden).items() if ".cond_projs." not in name}

    def add(name, entering, width):
        state[f"{name}.weight"], state[f"{name}.bias"] = np.float32(draw((width, entering))), np.float32(draw(width))

    def add_mlp(name, entering, width):
        add(f"{name}.0", entering, width)
        add(f"{name}.2", width, width)

    for name in [name for name in state if name.endswith(".net1.2.bias")]:
        for i, entering in enumerate((256, 64 if source == "common" else 11)):
            add_one = add_mlp if kind == "mlp" else add
            add_one(name.replace("net1.2.bias", f"cond_projs.{i}"), entering, len(state[name]))
    if source == "common":
        add_mlp("score_model.embed_v_conditionings.0", 11, 64)
    return state


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_weights_of_every_kind_of_conditioning(golden, conditioning):
    model = vdm.Vdm.from_config(dataclasses.replace(NETWORK, conditioning=conditioning), DiffusionConfig(), "xla")
    state = of_kind(golden, conditioning)
    found = torch_weights.vdm_params(model.network, state)
    shapes = jax.eval_shape(lambda key: vdm.init_params(model, key), jax.random.key(0))
    assert jax.tree.map(np.shape, found) == jax.tree.map(np.shape, shapes)
    block = found["network"]["up_0_block_1"]
    layers = {"mlp/dense_0": "0.", "mlp/dense_1": "2."} if conditioning.endswith("mlp") else {"linear": ""}
    for i, name in enumerate(("project_time", "project_vector")):
        for ours, theirs in layers.items():
            layer, prefix = block[name], f"score_model.ups.1.resnet_blocks.1.cond_projs.{i}.{theirs}"
            for part in ours.split("/"):
                layer = layer[part]
            np.testing.assert_array_equal(layer["kernel"], state[f"{prefix}weight"].T)
            np.testing.assert_array_equal(layer["bias"], state[f"{prefix}bias"])
    back = torch_weights.vdm_state(model.network, found)
    assert back.keys() == state.keys()
    assert all(np.array_equal(back[name], state[name]) for name in state if ".cond_projs." in name)


def test_a_mix_of_weights_is_one_line(golden):
    spec = vdm.Vdm.from_config(NETWORK, DiffusionConfig(), "xla").network
    both = state_of(golden)
    both["score_model.mid1.net2.2.bias"] = both.pop("score_model.mid1.net2.3.bias")
    half = state_of(golden)
    del half["gamma.w"]
    fixed = state_of(golden, learned=False)
    for state, schedule, words in [
        (both, "", "the second convolution of some blocks is net2.3 (with dropout), of others net2.2 (without)"),
        (half, "", "missing ['gamma.w'], unknown none"),
        (fixed, "learned_linear", "diffusion.schedule = 'learned_linear', and they hold no gamma.b and gamma.w"),
        (state_of(golden), "fixed_linear", "diffusion.schedule = 'fixed_linear', and they hold gamma.b and gamma.w"),
    ]:
        with pytest.raises(UserError) as error:
            torch_weights.vdm_params(spec, state, schedule)
        assert words in str(error.value) and "\n" not in str(error.value)


def test_shapes_that_do_not_fit_are_told(golden):
    state = state_of(golden)
    state["score_model.conv_in.weight"] = state["score_model.conv_in.weight"][:, :2]
    with pytest.raises(UserError, match=r"conv_in/kernel has the shape \(3, 3, 2, .*must be \(3, 3, 3"):
        torch_weights.vdm_params(vdm.Vdm.from_config(NETWORK, DiffusionConfig(), "xla").network, state)


def test_names_that_do_not_fit_are_listed(golden):
    model = vdm.Vdm.from_config(NETWORK, DiffusionConfig(), "xla")
    state = state_of(golden)
    state["score_model.extra.weight"] = state.pop("score_model.conv_in.bias")
    with pytest.raises(UserError, match=r"missing \['score_model.conv_in.bias'\].*score_model.extra.weight"):
        torch_weights.vdm_params(model.network, state)


@pytest.mark.parametrize(("dropout", "schedule"), [(0.1, "learned_linear"), (0.0, "fixed_linear")])
def test_weights_are_written_under_every_name_of_the_reference_and_read_back(golden, dropout, schedule, tmp_path):
    spec = dataclasses.replace(vdm.Vdm.from_config(NETWORK, DiffusionConfig(), "xla").network, dropout=dropout)
    theirs = state_of(golden, dropout > 0, schedule == "learned_linear")
    file = tmp_path / "weights.safetensors"
    state = torch_weights.vdm_state(spec, torch_weights.vdm_params(spec, theirs))
    file.write_bytes(torch_weights.write_safetensors(state, {"run": "3"}))
    back = torch_weights.read_state_dict(str(file))
    assert {name: array.shape for name, array in back.items()} == {name: a.shape for name, a in theirs.items()}
    unused = {name for name in theirs if not back[name].any() and theirs[name].any()}
    assert {name.rsplit(".", 1)[0] for name in unused} == {"score_model.downs.1.down", "score_model.ups.1.up"}
    for name in set(theirs) - unused:
        np.testing.assert_array_equal(back[name], theirs[name], err_msg=name, strict=True)


def test_a_weights_file_that_cannot_be_read_or_written_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "cut.safetensors").write_bytes(b"1234")
    with pytest.raises(UserError, match="cut.safetensors' cannot be read"):
        torch_weights.read_state_dict(str(tmp_path / "cut.safetensors"))
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(UserError, match="cut.npz' cannot be read"):
        torch_weights.read_state_dict(str(tmp_path / "cut.npz"))
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(UserError, match=r"needs the package safetensors: pip install 'cspace_jax\[export\]'"):
        torch_weights.write_safetensors({}, {})

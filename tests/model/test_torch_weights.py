"""Weights under the reference's names: with and without dropout and schedule, of every conditioning, and bad ones."""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from cspace_jax.config import DiffusionConfig
from cspace_jax.config.schema import CONDITIONINGS
from cspace_jax.errors import UserError
from cspace_jax.model import torch_weights, vdm
from experiments.golden import NETWORK, read, tree

pytestmark = pytest.mark.network


@pytest.fixture(scope="module")
def golden():
    return read("vdm_small")


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

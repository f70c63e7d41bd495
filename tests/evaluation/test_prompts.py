"""What prompts, edits and patches do to conditionings, embeddings and samples."""

import dataclasses
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from batteries import CONFIG, KEY, SETTING, means, with_protocols

from cspace_jax.config.schema import CONDITIONINGS
from cspace_jax.errors import UserError
from cspace_jax.evaluation import probe as probe_network
from cspace_jax.evaluation import prompts as prompting
from cspace_jax.evaluation import protocols, sampling
from cspace_jax.evaluation.prompts import battery
from cspace_jax.evaluation.spec import EvalSpec
from cspace_jax.model import unet, vdm
from cspace_jax.training.run import TrainSpec

pytestmark = pytest.mark.network


def spec_of(config):
    reader = probe_network.ProbeSpec.from_config(config)
    return EvalSpec.of_battery(config, TrainSpec.from_config(config), reader)


def parameters(seed, spec):
    """Random parameters without the zero-initialised layers that would hide every conditioning."""
    shapes = jax.eval_shape(lambda key: vdm.init_params(spec.train.vdm, key), KEY)
    leaves, treedef = jax.tree.flatten(shapes)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    drawn = [0.3 * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(treedef, drawn)


@partial(jax.jit, static_argnums=0)
def prepare(spec, params, patch, setting):
    return prompting.prepare(spec, params, patch, setting, battery(spec, setting))


draw = jax.jit(sampling.draw, static_argnums=0)


def prepared(config, params, patch):
    """Prompts of the whole battery."""
    return prepare(spec_of(config), params, patch, SETTING)


def images_of(config, params, patch):
    """Samples of the battery by query: [q, samples, h, w, 3]."""
    spec = spec_of(config)
    drawn = draw(spec, params, prepared(config, params, patch))
    return np.asarray(drawn).reshape(spec.shape[0], spec.shape[2], *drawn.shape[1:])


def battery_of(*names, **values):
    return dataclasses.replace(CONFIG, elicit=with_protocols(*names, samples=2, **values))


def test_nothing_edited_or_patched_is_naive_prompting_bit_for_bit():
    """Compared at the same place of the batch: a CPU may round the last images of a batch differently."""
    configs = (battery_of("overprompt", overprompt=(0.0,)), battery_of("latent", alpha=(0.0,), beta=(0.0,)))
    params = parameters(1, spec_of(configs[0]))
    naive, latent, patched = (images_of(config, params, params) for config in (*configs, battery_of("patch")))
    assert np.isfinite(naive).all()
    np.testing.assert_allclose(naive[1], naive[0], atol=1e-4)
    np.testing.assert_array_equal(latent, naive)
    np.testing.assert_array_equal(patched, naive)


def test_edits_patches_and_prompts_change_the_samples_and_samples_share_their_noise():
    config = battery_of("latent", "latent_random", "patch", "overprompt", alpha=(2.0,), overprompt=(3.0,))
    spec = spec_of(config)
    params, other = parameters(1, spec), parameters(2, spec)
    naive, *changed = images_of(config, params, other)
    for images in changed:
        assert np.abs(images - naive).max() > 1e-4
    assert np.abs(naive[0] - naive[1]).max() > 1e-2  # two samples of a query have their own noise
    patched_all = images_of(battery_of("patch"), parameters(1, spec), other)[1]
    np.testing.assert_allclose(changed[2], patched_all, rtol=1e-5, atol=1e-5)  # the same noise in another battery


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_projected_conditionings_give_what_conditioning_vectors_give(conditioning):
    network = unet.UNetSpec((4, 8), 1, 2, 2, conditioning=conditioning, convolution="xla")
    key = jax.random.split(KEY, 4)
    shapes = jax.eval_shape(lambda k: unet.init_params(network, k), KEY)
    params = jax.tree.map(
        lambda leaf: 0.2 * jnp.cos(jnp.arange(leaf.size, dtype=jnp.float32)).reshape(leaf.shape), shapes
    )
    z, t, c = jax.random.normal(key[0], (3, 8, 8, 3)), jnp.array([0.1, 0.5, 0.9]), jax.random.normal(key[1], (3, 11))
    projected = unet.project_conditioning(network, params, c)
    assert {name: value.shape for name, value in projected.items()} == {
        name: (3, width) for name, width in unet.block_features(network).items()
    }
    np.testing.assert_allclose(
        unet.apply(network, params, z, t, projected), unet.apply(network, params, z, t, c), rtol=1e-5, atol=1e-5
    )


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def shared_battery(*names, conditioning="common_linear", **values):
    return tiny.changed(battery_of(*names, **values), network={"conditioning": conditioning})


def layers(params, *path):
    """NumPy, float64: a linear layer, or the two of an MLP with GELU after both, as a function."""
    held = params["network"]
    for name in path:
        held = held[name]

    def linear(c, one):
        return c @ np.asarray(one["kernel"], np.float64) + np.asarray(one["bias"], np.float64)

    if "dense_0" in held:
        return lambda c: gelu(linear(gelu(linear(c, held["dense_0"])), held["dense_1"]))
    return lambda c: linear(c, held)


def projection(params, block, conditioning):
    """What a block does with the embedding that it reads."""
    return layers(params, block, "project_vector", "mlp" if conditioning.endswith("mlp") else "linear")


@pytest.mark.parametrize(
    ("held", "asked", "words"),
    [
        ("sep_mlp", "common_linear", "network.conditioning = 'common_linear': the parameters hold no embed_vector,"),
        ("common_linear", "sep_mlp", "the parameters hold no down_0_block_0/project_vector/mlp, they are of another"),
    ],
)
def test_parameters_of_another_kind_of_conditioning_are_one_line(held, asked, words):
    held, asked = (unet.UNetSpec((4,), 1, 2, 2, conditioning=kind) for kind in (held, asked))
    shapes = jax.eval_shape(lambda key: unet.init_params(held, key), KEY)
    with pytest.raises(UserError) as error:
        jax.eval_shape(lambda params: unet.project_conditioning(asked, params, jnp.zeros((1, 11))), shapes)
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_a_latent_intervention_by_hand(conditioning):
    """Two blocks, float64 NumPy: h + alpha <h, b> b, then minus beta <., l> l, with b and l of length one."""
    config = shared_battery("latent", alpha=(1.5,), beta=(0.4,), conditioning=conditioning)
    params = parameters(3, spec_of(config))
    prompts = prepared(config, params, params)

    def embed(block, c):
        read = layers(params, "embed_vector")(c) if conditioning.startswith("common") else c
        return projection(params, block, conditioning)(read)

    blue, large = np.zeros(11), np.zeros(11)
    blue[4:7], large[7] = (0.05, 0.05, 0.95), 0.6
    for block in ("down_0_block_0", "mid_block_1"):
        h, b, low = (embed(block, c) for c in (means()[3], blue, large))
        b, low = b / np.linalg.norm(b), low / np.linalg.norm(low)
        first = h + 1.5 * (h @ b) * b
        expected = first - 0.4 * (first @ low) * low
        np.testing.assert_allclose(prompts.conditioning[block][2], expected, rtol=1e-6, atol=3e-6)
        np.testing.assert_allclose(prompts.conditioning[block][0], h, rtol=1e-6, atol=3e-6)


@pytest.mark.parametrize("conditioning", ["common_mlp", "common_linear", "common_zerolinear"])
def test_a_shared_latent_intervention_by_hand(conditioning):
    """Float64 NumPy: v + alpha <v, b> b, then minus beta <., l> l, with b of RGB (.1, .1, .9); then each block."""
    config = shared_battery(
        "latent_shared", "latent_shared_shuffled", conditioning=conditioning, alpha=(1.5,), beta=(0.4,)
    )
    spec = spec_of(config)
    params = parameters(3, spec)
    prompts = prepared(config, params, params)
    embed = layers(params, "embed_vector")

    def edited(v, up, down):
        up, down = (one / np.linalg.norm(one) for one in map(embed, (up, down)))
        first = v + 1.5 * (v @ up) * up
        return first - 0.4 * (first @ down) * down

    blue, red, small, large = np.zeros((4, 11))
    blue[4:7], red[4:7], small[7], large[7] = (0.1, 0.1, 0.9), (0.95, 0.05, 0.05), 0.3, 0.6
    v = embed(means()[3])
    for block in ("down_0_block_0", "mid_block_1"):
        project = projection(params, block, conditioning)
        own, shuffled = edited(v, blue, large), edited(v, small, red)
        rescaled = v + (shuffled - v) * np.linalg.norm(own - v) / np.linalg.norm(shuffled - v)
        for query, expected in enumerate((v, own, rescaled)):
            np.testing.assert_allclose(prompts.conditioning[block][2 * query], project(expected), rtol=1e-6, atol=3e-6)


def test_shared_edits_have_random_controls_of_their_length_and_none_is_naive_prompting():
    config = shared_battery("latent_shared", "latent_shared_random", "latent", alpha=(0.0, 2.0), beta=(0.0,))
    spec = spec_of(config)
    params = parameters(3, spec)
    prompts = prepared(config, params, params)
    for h in prompts.conditioning.values():
        naive, none, edit, none_random, random, _, latent = np.asarray(h)[::2]
        np.testing.assert_array_equal(none, naive)
        np.testing.assert_array_equal(none_random, naive)
        for one, another in ((edit, naive), (random, naive), (random, edit), (latent, edit)):
            assert np.abs(one - another).max() > 1e-3
    images = images_of(config, params, params)
    np.testing.assert_array_equal(images[1], images[0])
    assert np.abs(images[2] - images[0]).max() > 1e-4


def test_random_shared_edits_keep_the_length_in_the_shared_embedding(monkeypatch):
    """The edit of the embedding itself, before any block reads it."""
    edits = []
    edit = prompting.edit

    def record(h, *more):
        edits.append((h, edit(h, *more)))
        return edits[-1][1]

    monkeypatch.setattr(prompting, "edit", record)
    config = shared_battery("latent_shared", "latent_shared_random", alpha=(1.0, 2.0), beta=(0.1,))
    params = parameters(3, spec_of(config))
    spec = spec_of(config)
    prompting.prepare(spec, params, params, SETTING, battery(spec, SETTING))
    before, after = (np.asarray(one[""], np.float64) for one in edits[0])
    lengths = np.linalg.norm(after - before, axis=1)
    np.testing.assert_allclose(lengths[3:], lengths[1:3], rtol=1e-4)
    cosine = (after - before)[1] @ (after - before)[3] / (lengths[1] * lengths[3])
    assert lengths[0] == 0 and lengths[1] > 0.01 and abs(cosine) < 0.9
    for name, h in edits[1][0].items():
        np.testing.assert_array_equal(h, edits[1][1][name])  # no block edits it again


def test_random_latent_directions_have_the_length_of_the_edit():
    config = battery_of("latent", "latent_random", alpha=(1.0, 2.0), beta=(0.1,))
    params = parameters(3, spec_of(config))
    prompts = prepared(config, params, params)
    for h in prompts.conditioning.values():
        naive, *edited = np.asarray(h, np.float64)[::2]
        lengths = [np.linalg.norm(one - naive) for one in edited]
        np.testing.assert_allclose(lengths[2:], lengths[:2], rtol=1e-4)
        cosine = (edited[0] - naive) @ (edited[2] - naive) / (lengths[0] * lengths[2])
        assert abs(cosine) < 0.999


def test_a_guidance_weight_for_each_sample_is_that_weight_for_all():
    spec = spec_of(CONFIG).train.vdm
    params = parameters(4, spec_of(CONFIG))
    key = jax.random.split(KEY, 2)
    z, c = jax.random.normal(key[0], (3, 8, 8, 3)), jax.random.normal(key[1], (3, 11))
    gamma_t = jnp.zeros(3)
    each = vdm.guided_eps(spec, params, z, gamma_t, c, jnp.array([0.0, 1.0, 3.0]))
    for i, weight in enumerate((0.0, 1.0, 3.0)):
        np.testing.assert_allclose(each[i], vdm.guided_eps(spec, params, z, gamma_t, c, weight)[i], atol=1e-5)
    np.testing.assert_allclose(each[1], vdm.eps_hat(spec, params, z, gamma_t, c)[1], atol=1e-5)


def test_weights_0_and_1_take_one_evaluation_of_the_network_and_give_what_both_branches_give():
    config = battery_of("guidance", "overprompt+guidance", guidance=(0.0, 1.0, 3.0), overprompt=(1.0,))
    assert protocols.passes(config.elicit, 1.0) == [1, 1, 1, 2, 1, 1, 2]
    assert protocols.passes(config.elicit, 2.0) == [2, 1, 1, 2, 1, 1, 2]
    assert protocols.passes(with_protocols("overprompt", overprompt=(1.0,)), 1.0) == [1, 1]
    both = spec_of(config)
    one = dataclasses.replace(both, guided=False)
    params = parameters(5, both)
    two, single = (prepare(spec, params, params, SETTING) for spec in (both, one))
    assert single.guidance is None and single.null is None
    z, gamma_t = jax.random.normal(KEY, (14, 8, 8, 3)), jnp.zeros(14)
    network = both.train.vdm
    weighted = vdm.guided_eps(network, params, z, gamma_t, two.conditioning, two.guidance, two.null)
    plain = vdm.guided_eps(network, params, z, gamma_t, single.conditioning, None)
    needs_one = np.isin(np.asarray(two.guidance), protocols.ONE_BRANCH)
    assert needs_one.sum() == 10
    np.testing.assert_allclose(plain[needs_one], weighted[needs_one], atol=2e-5)
    assert np.abs(plain - weighted)[~needs_one].max() > 1e-3


def test_repeats_have_noise_of_their_own_and_the_first_that_of_naive_prompting():
    config = battery_of("naive_repeats", "overprompt", overprompt=(0.0, 1.0, 2.0))
    params = parameters(3, spec_of(config))
    naive, first, second, third, same, *_ = images_of(config, params, params)
    np.testing.assert_allclose(first, naive, atol=1e-4)  # a CPU may round other places of a batch differently
    np.testing.assert_allclose(same, naive, atol=1e-4)  # overprompting of strength 0 shares the noise of all queries
    for one, another in ((second, naive), (third, naive), (second, third)):
        assert np.abs(one - another).max() > 1e-2

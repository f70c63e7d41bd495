"""Elicitation protocols: what they ask for, their controls, latent edits by hand, capability without its maximum."""

import dataclasses
import math
import pathlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

import cspace_jax as cs
from cspace_jax.analysis import capability
from cspace_jax.config.schema import CONDITIONINGS, DataConfig, ElicitConfig
from cspace_jax.data.concepts import SLICES, class_ranges, classes, mean_conditionings
from cspace_jax.data.renderer import Renderer
from cspace_jax.errors import UserError
from cspace_jax.evaluation import probe as probe_network
from cspace_jax.evaluation import prompts as prompting
from cspace_jax.evaluation import protocols, sampling
from cspace_jax.evaluation.prompts import battery
from cspace_jax.evaluation.query import random_direction, unlike
from cspace_jax.evaluation.spec import EvalSpec
from cspace_jax.model import unet, vdm
from cspace_jax.training.run import TrainSpec

ACTIVE = ("color", "size")
KEY = jax.random.key(5)
CONFIG = tiny.study(
    network={"channels": (4,), "dropout": 0.0},
    diffusion={"schedule": "fixed_linear", "p_uncond": 0.1},
    elicit={"samples": 2},
)
SETTING = jax.tree.map(lambda leaf: leaf[0], tiny.settings(CONFIG))


def with_protocols(*names, **values):
    return ElicitConfig(protocols=names, **values)


def rows_of(config, name, active=ACTIVE):
    """The queries of one protocol on the last held-out class, leaves [q, ...]."""
    queries = protocols.queries(config, Renderer(DataConfig(active=tuple(active))), SETTING, KEY)
    rows = np.array([i for i, (one, _) in enumerate(protocols.layout(config)) if one == name])
    return jax.tree.map(lambda leaf: np.asarray(leaf)[rows, -1], queries)


def means(active=ACTIVE):
    return np.asarray(mean_conditionings(active, class_ranges(SETTING.sep_col, SETTING.sep_size, SETTING.sep_bg)))


def test_naive_comes_first_and_asks_at_the_class_mean():
    config = with_protocols("patch", "naive")
    assert [name for name, _ in protocols.layout(config)] == ["naive", "patch"]
    naive, patched = rows_of(config, "naive"), rows_of(config, "patch")
    np.testing.assert_array_equal(naive.conditioning, means()[3:])
    assert not naive.patched and patched.patched and naive.guidance == 1.0
    np.testing.assert_array_equal(naive.conditioning, patched.conditioning)


def test_overprompting_exaggerates_the_difference_of_the_class_means():
    colors = rows_of(with_protocols("overprompt"), "overprompt").conditioning[:, SLICES["color"]]
    expected = [(0.4 - 0.2 * f, 0.4, 0.6 + 0.2 * f) for f in (0.0, 0.25, 0.75, 1.25, 1.75)]  # sep_col .2
    np.testing.assert_allclose(colors, expected, atol=1e-6)


def test_the_published_prompts():
    query = rows_of(with_protocols("overprompt_published"), "overprompt_published")
    published = [(0.4, 0.4, 0.6), (0.35, 0.35, 0.65), (0.25, 0.25, 0.75), (0.15, 0.15, 0.85), (0.05, 0.05, 0.95)]
    np.testing.assert_allclose(query.conditioning[:, SLICES["color"]], published, atol=1e-6)
    np.testing.assert_allclose(query.conditioning[:, SLICES["size"]], 0.3, atol=1e-6)


def test_overprompting_goes_along_the_chosen_concept_only():
    config = with_protocols("overprompt", "overprompt_shuffled", concept="size", overprompt=(1.0,))
    size, color = (rows_of(config, name).conditioning[0] - means()[3] for name in ("overprompt", "overprompt_shuffled"))
    along_size, along_color = means()[3] - means()[2], means()[3] - means()[1]
    np.testing.assert_allclose(size, along_size, atol=1e-6)
    ratio = np.linalg.norm(along_size) / np.linalg.norm(along_color)
    np.testing.assert_allclose(color, ratio * along_color, atol=1e-6)
    assert ratio > 1.05  # the control is as long as the protocol only because it is rescaled


def test_random_directions_have_the_length_of_what_they_control_and_differ():
    config = with_protocols("overprompt", "overprompt_random")
    pushed, control = (rows_of(config, name).conditioning - means()[3] for name in ("overprompt", "overprompt_random"))
    np.testing.assert_allclose(np.linalg.norm(control, axis=1), np.linalg.norm(pushed, axis=1), atol=1e-6)
    used = np.zeros(11, bool)
    used[4:8] = True
    assert not control[:, ~used].any()
    units = control[1:] / np.linalg.norm(control[1:], axis=1, keepdims=True)
    assert (np.abs(units @ units.T)[~np.eye(4, dtype=bool)] < 0.99).all()


def test_random_directions_are_no_near_copies_and_otherwise_free():
    """In the space of colour and size a fifth of all directions lies within 60 degrees of any other."""
    offset = jnp.asarray(means()[3] - means()[1])
    source = Renderer(DataConfig(active=ACTIVE))
    draw = jax.jit(jax.vmap(lambda key: random_direction(source, key, offset)))
    cosines = draw(jax.random.split(KEY, 2000)) @ (offset / np.linalg.norm(offset))
    assert cosines.max() < 0.5 and cosines.min() < -0.95
    # In four dimensions the density of a cosine is 2 / pi sqrt(1 - x^2); a fifth of it lies above one half.
    share = np.mean(cosines < 0)
    assert share == pytest.approx(0.5 / (1 - 0.1955), abs=0.03)


def test_where_every_candidate_is_a_near_copy_the_farthest_is_taken():
    near = jnp.array([[1.0, 0.1], [1.0, 1.5], [1.0, 0.0]])
    np.testing.assert_allclose(unlike(jnp.array([2.0, 0.0]), near), near[1] / np.sqrt(3.25), rtol=1e-6)
    np.testing.assert_allclose(unlike(jnp.zeros(2), near), near[0] / np.sqrt(1.01), rtol=1e-6)


def test_the_plain_query_is_repeated_as_often_as_the_protocol_with_most_settings():
    config = with_protocols("overprompt", "naive_repeats", "patch", "overprompt_random", overprompt=(0.5, 1.0, 1.5))
    query = rows_of(config, "naive_repeats")
    assert query.repeat.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(query.conditioning, np.tile(means()[3], (3, 1)))
    assert len(rows_of(with_protocols("naive_repeats"), "naive_repeats").repeat) == 1


def test_repeats_have_noise_of_their_own_and_the_first_that_of_naive_prompting():
    config = battery_of("naive_repeats", "overprompt", overprompt=(0.0, 1.0, 2.0))
    params = parameters(3, spec_of(config))
    naive, first, second, third, same, *_ = images_of(config, params, params)
    np.testing.assert_allclose(first, naive, atol=1e-4)  # a CPU may round other places of a batch differently
    np.testing.assert_allclose(same, naive, atol=1e-4)  # overprompting of strength 0 shares the noise of all queries
    for one, another in ((second, naive), (third, naive), (second, third)):
        assert np.abs(one - another).max() > 1e-2


def test_batteries_whose_controls_are_drawn_otherwise_are_told_apart(monkeypatch):
    plain, controlled = with_protocols("overprompt"), with_protocols("overprompt", "overprompt_random")
    before = [protocols.fingerprint(one) for one in (plain, controlled)]
    monkeypatch.setattr(protocols, "CONTROLS", "drawn otherwise")
    after = [protocols.fingerprint(one) for one in (plain, controlled)]
    assert before[0] == after[0] and before[1] != after[1]


def test_three_concepts_ask_every_held_out_class_and_push_it_along_its_own_value():
    active = ("color", "size", "bg_color")
    config = with_protocols("overprompt", "latent", overprompt=(1.0,))
    queries = protocols.queries(config, Renderer(DataConfig(active=tuple(active))), SETTING, KEY)
    held_out = classes(active).held_out_ids
    assert queries.conditioning.shape[:2] == (len(protocols.layout(config)), len(held_out)) == (5, 4)
    blue = SLICES["color"].stop - 1
    for k, klass in enumerate(held_out):
        offset = queries.conditioning[1, k] - means(active)[klass]
        assert np.sign(offset[blue]) == (1 if classes(active).bits[klass][0] else -1)


def test_latent_directions_are_the_published_ones():
    query = rows_of(with_protocols("latent"), "latent")
    assert query.alpha.tolist() == pytest.approx([0.1, 1.0, 2.0]) and query.beta.tolist() == pytest.approx([0.1] * 3)
    blue, large = np.zeros(11), np.zeros(11)
    blue[4:7], large[7] = (0.05, 0.05, 0.95), 0.6
    np.testing.assert_allclose(query.amplified, np.tile(blue, (3, 1)), atol=1e-7)
    np.testing.assert_allclose(query.removed, np.tile(large, (3, 1)), atol=1e-7)


def test_weights_of_guidance():
    plain = with_protocols("overprompt", "overprompt+guidance_random", overprompt=(1.0,), guidance=(2.0, 3.0))
    assert protocols.uses_guidance(plain) and not protocols.uses_guidance(with_protocols("overprompt"))
    queries = protocols.queries(plain, Renderer(DataConfig(active=ACTIVE)), SETTING, KEY, guidance=1.5)
    assert queries.guidance[:, 0].tolist() == [1.5, 1.5, 2.0, 3.0]


def test_joined_protocols_try_every_combination():
    config = with_protocols("overprompt+guidance", overprompt=(0.5, 1.0), guidance=(1.0, 2.0, 3.0))
    query = rows_of(config, "overprompt+guidance")
    assert query.guidance.tolist() == [1, 2, 3, 1, 2, 3]
    assert len(np.unique(query.conditioning, axis=0)) == 2


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("overpromt", "unknown protocol 'overpromt', did you mean 'overprompt'"),
        ("latent+ptch", "unknown protocol 'ptch'"),
        ("patch_shuffled", "it follows no concept that could be shuffled"),
        ("overprompt+naive_repeats", "naive_repeats repeats the plain query and cannot be joined"),
        ("naive_repeats_random", "nothing is moved that a random direction could replace"),
        ("latent+latent_shared", "a query edits its embedding once"),
        ("guidance_random", "nothing is moved that a random direction could replace"),
    ],
)
def test_unknown_protocols_are_one_line(name, words):
    with pytest.raises(UserError) as error:
        protocols.layout(with_protocols(name))
    assert words in str(error.value) and "\n" not in str(error.value)


def test_the_page_on_extending_adds_a_protocol(monkeypatch):
    monkeypatch.setattr(protocols, "PROTOCOLS", dict(protocols.PROTOCOLS))
    page = (pathlib.Path(__file__).resolve().parents[2] / "docs" / "architecture.md").read_text()
    exec(page.split("## How to extend")[1].split("```python")[1].split("```")[0], {"cs": cs})
    config = with_protocols("dim", "dim_random")
    np.testing.assert_allclose(rows_of(config, "dim").conditioning[1], 0.8 * means()[3], rtol=1e-6)
    offset = rows_of(config, "dim_random").conditioning[1] - means()[3]
    assert np.linalg.norm(offset) == pytest.approx(0.2 * np.linalg.norm(means()[3]), rel=1e-5)


def test_a_shared_edit_needs_a_shared_embedding():
    config = with_protocols("overprompt", "latent_shared_random")
    for kind in CONDITIONINGS:
        protocols.check_network(with_protocols("latent"), kind)  # each block's own
        if kind in ("common_mlp", "common_linear", "common_zerolinear"):
            protocols.check_network(config, kind)
            continue
        with pytest.raises(UserError) as error:
            protocols.check_network(config, kind)
        assert "\n" not in str(error.value) and str(error.value).startswith(
            "elicit.protocols = 'latent_shared_random': needs one embedding shared by all blocks (network.conditioning "
            f"one of common_mlp, common_linear, common_zerolinear), but network.conditioning = {kind!r}"
        )


def test_a_protocol_that_changes_the_form_of_a_query_is_one_line(monkeypatch):
    monkeypatch.setattr(protocols, "PROTOCOLS", dict(protocols.PROTOCOLS))

    @protocols.protocol("short")
    def short(query, target, value):
        return query.replace(amplified=target.strong[4:7], alpha=jnp.float32(1.0))

    with pytest.raises(UserError, match=r"^protocol 'short': query.amplified has shape \(3,\), must be \(11,\)$"):
        rows_of(with_protocols("short"), "short")


# The sampler.


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


def test_batches_of_a_battery_are_of_equal_length():
    config = dataclasses.replace(CONFIG, elicit=with_protocols("overprompt", samples=4))
    reader, trained = probe_network.ProbeSpec.from_config(config), TrainSpec.from_config(config)
    shapes = [EvalSpec.of_battery(config, trained, reader, most).shape for most in (0, 17, 1)]
    assert shapes == [(6, 1, 4), (3, 1, 4), (1, 1, 4)]  # 6 queries in 2 calls are 3 and 3, not 4 and 2


# Capability.

BITS = np.array([[1, 1]])


def test_joint_score_by_hand():
    prob = np.array([[[[0.9, 0.8], [0.5, 0.2]]]])  # one query, one class, two samples
    scores, product = capability.joint(capability.correct(prob, np.array([[1, 0]])))
    np.testing.assert_allclose(scores, [[[0.9 * 0.2, 0.5 * 0.8]]], rtol=1e-6)
    np.testing.assert_allclose(product, [[0.7 * 0.5]], rtol=1e-6)


def test_the_split_estimate_does_not_count_the_maximum_as_capability():
    """Thirty queries that are all worth one half: the maximum looks better than any, the split estimate does not."""
    generator = np.random.default_rng(0)
    scores = generator.integers(0, 2, (400, 30, 1, 8)).astype(float)
    split = capability.split_capability(scores)[:, 0]
    assert scores.mean(-1).max(1).mean() > 0.8
    assert abs(split.mean() - 0.5) < 4 * split.std() / math.sqrt(len(split))


def test_measures_of_two_protocols_by_hand():
    prob = np.zeros((1, 3, 1, 2, 2), np.float32)
    prob[0, 0] = [[[0.5, 0.5], [0.5, 0.5]]]
    prob[0, 1] = [[[1.0, 0.5], [0.0, 0.5]]]  # joint .25
    prob[0, 2] = [[[1.0, 1.0], [1.0, 0.0]]]  # joint .5, product of means .5
    found = capability.measure(prob, BITS, ["naive", "two", "two"])
    np.testing.assert_allclose(found["capability"][0, :, 0], [0.25, 0.5])
    np.testing.assert_allclose(found["capability_product"][0, :, 0], [0.25, 0.5])
    # Even half: queries (.5, 1), odd half: (0, 0), where the first is taken: (0 + .5) / 2.
    np.testing.assert_allclose(found["capability_split"][0, :, 0], [0.25, 0.25])
    # The same with one concept alone. First: queries (1, 1), of a tie the first scores 0; (0, 1) scores 1. Second: .25.
    np.testing.assert_allclose(found["capability_concept"][0, :, 0], [[0.5, 0.5], [0.5, 0.25]])
    assert found["best_query"][0, :, 0].tolist() == [0, 1]
    np.testing.assert_array_equal(found["prob_samples"][0, 1, 0], prob[0, 2, 0])


def test_emergence_is_persistent_and_never_is_nan():
    steps = np.array([10, 20, 30, 40])
    times = capability.emergence(steps, np.array([[0.0, 0.9, 0.0, 1.0], [0.9, 0.9, 0.9, 0.9], [0.0, 0.9, 0.9, 0.7]]))
    assert times[0] == pytest.approx(38.0) and times[1] == 10 and np.isnan(times[2])


def test_each_concept_is_pushed_in_turn_and_then_all_at_once():
    asked = ElicitConfig(protocols=("overprompt", "latent_shuffled", "patch", "overprompt+patch"), concept="each")
    found = protocols.expand(asked, ("color", "size", "bg_color"))
    assert found.protocols == (
        "overprompt:color", "overprompt:size", "overprompt:bg_color", "overprompt:all",
        "latent:color_shuffled", "latent:size_shuffled", "latent:bg_color_shuffled", "patch",
        "overprompt:color+patch", "overprompt:size+patch", "overprompt:bg_color+patch", "overprompt:all+patch",
    )  # fmt: skip
    assert protocols.expand(ElicitConfig(), ACTIVE) == ElicitConfig()
    config = with_protocols("overprompt:size", "overprompt:all", "overprompt:color", "overprompt", overprompt=(1.0,))
    mean, small_red, large_blue, large_red = (means()[k] for k in (3, 1, 2, 0))
    for name, expected in (
        ("overprompt:size", 2 * mean - large_blue), ("overprompt:all", 2 * mean - large_red),
        ("overprompt:color", 2 * mean - small_red), ("overprompt", 2 * mean - small_red),
    ):  # fmt: skip
        np.testing.assert_allclose(rows_of(config, name).conditioning[0], expected, atol=1e-6)
    latent = with_protocols("latent:all", alpha=(1.0,), beta=(0.5,))
    row = rows_of(latent, "latent:all")
    np.testing.assert_allclose(row.amplified[0][[4, 5, 6, 7]], [0.05, 0.05, 0.95, 0.3], atol=1e-6)
    assert not row.removed.any()


@pytest.mark.parametrize(
    "name, words",
    [("patch:size", "pushes no concept"), ("overprompt:all_shuffled", "none is left to exchange")],
)
def test_a_concept_behind_a_colon_must_make_sense(name, words):
    with pytest.raises(UserError, match=words):
        protocols.parse(name)

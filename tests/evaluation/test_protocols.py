"""Elicitation protocols: what they ask for, their controls, latent edits by hand, capability without its maximum."""

import pathlib

import jax.numpy as jnp
import numpy as np
import pytest
from batteries import ACTIVE, KEY, SETTING, means, rows_of, with_protocols

import cspace_jax as cs
from cspace_jax.config import protocol_names
from cspace_jax.config.schema import CONDITIONINGS, DataConfig, ElicitConfig
from cspace_jax.data.concepts import SLICES, classes
from cspace_jax.data.renderer import Renderer
from cspace_jax.errors import UserError
from cspace_jax.evaluation import protocols

pytestmark = pytest.mark.network


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
    asks = with_protocols("overprompt_published")
    protocols.check_source(asks, Renderer(DataConfig()))
    with pytest.raises(UserError, match="overprompt_published asks for colour and size"):
        protocols.check_source(asks, Renderer(DataConfig(active=("shape", "size"))))


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


def test_the_plain_query_is_repeated_as_often_as_the_protocol_with_most_settings():
    config = with_protocols("overprompt", "naive_repeats", "patch", "overprompt_random", overprompt=(0.5, 1.0, 1.5))
    query = rows_of(config, "naive_repeats")
    assert query.repeat.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(query.conditioning, np.tile(means()[3], (3, 1)))
    assert len(rows_of(with_protocols("naive_repeats"), "naive_repeats").repeat) == 1


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


def test_every_named_protocol_is_registered():
    named = {value for name, value in vars(protocol_names).items() if name.isupper() and not value.startswith("_")}
    assert named == set(protocols.PROTOCOLS)

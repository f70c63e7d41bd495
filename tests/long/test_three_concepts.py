"""A battery of three concepts, from the question to the figures."""

import functools

import jax
import numpy as np
import pytest
import synthetic
import tiny
from tiny import probe_of

from cspace_jax.analysis import capability
from cspace_jax.analysis.embeddings import extend_embeddings
from cspace_jax.data.concepts import classes
from cspace_jax.evaluation import embeddings, protocols, sampling
from cspace_jax.evaluation.prompts import battery, prepare
from cspace_jax.evaluation.reading import read
from cspace_jax.evaluation.spec import EvalSpec
from cspace_jax.model import unet, vdm
from cspace_jax.pipeline import elicit
from cspace_jax.plots.figures import Inputs, draw_all
from cspace_jax.training.run import TrainSpec

# Studies are trained, or programs compiled, by the dozen.
pytestmark = pytest.mark.system


THREE = ("color", "size", "bg_color")
STEPS = (0, 500, 1000, 9000)
CONFIG = tiny.study(
    grid={"sep_col": (0.2,), "learning_rate": (0.05,), "seeds": (0,)},
    data={"active": THREE},
    diffusion={"schedule": "fixed_linear", "p_uncond": 0.1, "gamma_min": -2.0, "gamma_max": 1.0},
    network={"channels": (4,), "conditioning": "common_linear"},
    optim={"clip": 1.0},
    elicit={
        "protocols": ("overprompt", "latent", "latent_shared", "latent_shared_random", "patch", "guidance"),
        "overprompt": (1.0, 2.0), "alpha": (1.0,), "guidance": (0.0, 3.0), "samples": 2, "concept": "bg_color",
    },
)  # fmt: skip
NAMES, VALUES = zip(*protocols.layout(CONFIG.elicit), strict=True)
HELD_OUT = [3, 5, 6, 7]  # of eight classes
READER = functools.cache(lambda: probe_of(CONFIG))


def spec_of_battery():
    return EvalSpec.of_battery(CONFIG, TrainSpec.from_config(CONFIG), READER().spec)


@pytest.fixture(scope="module")
def asked():
    """What the battery gives by step: random parameters stand for checkpoints, and see the class asked for."""
    elicit.check(CONFIG)
    spec = spec_of_battery()
    setting = jax.tree.map(lambda leaf: leaf[0], tiny.settings(CONFIG))

    @jax.jit
    def ask(params, patch):
        prompts = prepare(spec, params, patch, setting, battery(spec, setting))
        images = sampling.draw(spec, params, prompts)
        measured = read(spec, params, images, READER().params)
        return measured.prob_samples, measured.mean_rgb, images, embeddings.measure(spec.train, params, setting)

    shapes = jax.eval_shape(lambda key: vdm.init_params(spec.train.vdm, key), jax.random.key(0))
    random = np.random.default_rng(0)
    drawn = {s: jax.tree.map(lambda x: 0.5 * random.standard_normal(x.shape, np.float32), shapes) for s in STEPS}
    return {step: jax.device_get(ask(params, drawn[STEPS[-1]])) for step, params in drawn.items()}


@pytest.fixture(scope="module")
def ds(asked):
    raw = {step: {"prob_samples": prob[None], "mean_rgb": rgb[None]} for step, (prob, rgb, *_) in asked.items()}
    embedded = {step: {name: value[None] for name, value in vars(one).items()} for step, (*_, one) in asked.items()}
    ds = synthetic.dataset(levels=(0.2,), seeds=(0,), active=THREE, steps=STEPS[1:])
    ds = capability.extend(ds, raw, NAMES, [str(one) for (one,) in VALUES])
    blocks = unet.block_features(spec_of_battery().train.vdm.network)
    return extend_embeddings(ds, embedded, blocks, embeddings.vector_names(classes(THREE)))


@pytest.mark.parametrize("step", STEPS)
def test_a_query_changes_what_is_drawn(step, asked):
    """Patching does too, except with the parameters of the end."""
    prob, _, images, _ = asked[step]
    assert prob.shape == (len(NAMES), 4, 2, 3)
    images = images.reshape(len(NAMES), 4, -1)
    changed = np.abs(images[1:] - images[:1]).max(-1)
    assert (changed[np.array(NAMES[1:]) != "patch"] > 1e-3).all()
    assert (changed[NAMES.index("patch") - 1] > 1e-3).all() == (step != STEPS[-1])


def test_capability_is_that_of_the_classes_held_out(ds, asked):
    assert np.isfinite(ds["capability"].values[..., HELD_OUT]).all()
    assert np.isnan(np.delete(ds["capability"].values, HELD_OUT, axis=-1)).all()
    # Class 101 at step 1,000 by hand: its best overprompt of two.
    bits, prob = np.array([1, 0, 1]), asked[1000][0][1:3, 1]
    score = np.where(bits == 1, prob, 1 - prob).prod(-1).mean(-1)
    found = ds["capability"].sel(step=1000, protocol="overprompt", klass="101").item()
    assert found == pytest.approx(score.max(), rel=1e-5)
    (level,) = capability.summarise(ds)
    assert list(level["classes"]) == ["011", "101", "110", "111"]


def test_its_figures_are_drawn(ds, tmp_path):
    left_out = []
    chosen = ("fig6", "fig16", "fig17", "elicitation", "embeddings")
    assert len(draw_all(Inputs(ds, {}, CONFIG.data), tmp_path, chosen, left_out.append)) == 10 and not left_out

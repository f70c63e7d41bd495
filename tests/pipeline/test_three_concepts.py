"""A battery of three concepts, from the question to the figures."""

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


def test_three_concepts_from_the_question_to_the_figures(tmp_path):
    """Eight classes, four of them held out: random parameters stand for checkpoints, and see the class asked for."""
    config = tiny.study(
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
    elicit.check(config)
    reader = probe_of(config)
    spec = EvalSpec.of_battery(config, TrainSpec.from_config(config), reader.spec)
    setting = jax.tree.map(lambda leaf: leaf[0], tiny.settings(config))

    @jax.jit
    def ask(params, patch):
        prompts = prepare(spec, params, patch, setting, battery(spec, setting))
        images = sampling.draw(spec, params, prompts)
        measured = read(spec, params, images, reader.params)
        return measured.prob_samples, measured.mean_rgb, images, embeddings.measure(spec.train, params, setting)

    shapes = jax.eval_shape(lambda key: vdm.init_params(spec.train.vdm, key), jax.random.key(0))
    random = np.random.default_rng(0)
    steps = (0, 500, 1000, 9000)
    drawn = {s: jax.tree.map(lambda x: 0.5 * random.standard_normal(x.shape, np.float32), shapes) for s in steps}
    names, values = zip(*protocols.layout(config.elicit), strict=True)
    raw, embedded = {}, {}
    for step, params in drawn.items():
        prob, colors, images, found = jax.device_get(ask(params, drawn[9000]))
        raw[step] = {"prob_samples": prob[None], "mean_rgb": colors[None]}
        embedded[step] = {name: value[None] for name, value in vars(found).items()}
        images = images.reshape(len(names), 4, -1)
        changed = np.abs(images[1:] - images[:1]).max(-1)  # a query changes what is drawn, patching except at its end
        assert (changed[np.array(names[1:]) != "patch"] > 1e-3).all()
        assert (changed[names.index("patch") - 1] > 1e-3).all() == (step != 9000)
    assert raw[500]["prob_samples"].shape == (1, len(names), 4, 2, 3)
    ds = synthetic.dataset(levels=(0.2,), seeds=(0,), active=THREE, steps=steps[1:])
    ds = capability.extend(ds, raw, names, [str(one) for (one,) in values])
    ds = extend_embeddings(
        ds, embedded, unet.block_features(spec.train.vdm.network), embeddings.vector_names(classes(THREE))
    )
    held_out = [3, 5, 6, 7]
    assert np.isfinite(ds["capability"].values[..., held_out]).all()
    assert np.isnan(np.delete(ds["capability"].values, held_out, axis=-1)).all()
    # Class 101 at step 1,000 by hand: its best overprompt of two.
    bits, prob = np.array([1, 0, 1]), raw[1000]["prob_samples"][0, 1:3, 1]
    score = np.where(bits == 1, prob, 1 - prob).prod(-1).mean(-1)
    found = ds["capability"].sel(step=1000, protocol="overprompt", klass="101").item()
    assert found == pytest.approx(score.max(), rel=1e-5)
    (level,) = capability.summarise(ds)
    assert list(level["classes"]) == ["011", "101", "110", "111"]
    left_out = []
    names = ("fig6", "fig16", "fig17", "elicitation", "embeddings")
    drawn_files = draw_all(Inputs(ds, {}, config.data), tmp_path, names, left_out.append)
    assert len(drawn_files) == 10 and not left_out

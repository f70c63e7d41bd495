"""A run's network in the user's hands: its weights, written and read back."""

import dataclasses
import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

import cspace_jax as cs
from cspace_jax import rng
from cspace_jax.config.setting import Setting
from cspace_jax.evaluation.probe import ProbeSpec
from cspace_jax.evaluation.spec import EvalSpec
from cspace_jax.model import torch_weights, vdm
from cspace_jax.pipeline import model as model_module
from cspace_jax.pipeline.model import Model
from cspace_jax.training.run import TrainSpec

CONFIG = tiny.study(evaluate={"samples_per_class": 3, "keep_samples": 2})


@pytest.fixture(scope="module")
def model():
    train, draw = TrainSpec.from_config(CONFIG), np.random.default_rng(0)
    spec = EvalSpec.from_config(CONFIG, train, ProbeSpec.from_config(CONFIG))
    shapes = jax.eval_shape(lambda key: vdm.init_params(train.vdm, key), jax.random.key(0))
    params = jax.tree.map(lambda leaf: draw.standard_normal(leaf.shape).astype(np.float32), shapes)
    return Model(spec, params, Setting(seed=np.uint32(7)), 3, 5)


def test_weights_of_a_run_are_a_file_that_is_read_back_bit_for_bit(model, tmp_path):
    file = model.save(tmp_path / "w" / "run.safetensors")
    network = model.spec.train.vdm.network
    back = torch_weights.vdm_params(network, torch_weights.read_state_dict(str(file)), "learned_linear")
    tiny.assert_same_bits(back, model.params)
    size = int.from_bytes(file.read_bytes()[:8], "little")  # of the header
    facts = json.load(io.BytesIO(file.read_bytes()[8 : 8 + size]))["__metadata__"]
    assert (facts["run"], facts["step"], json.loads(facts["setting"])["seed"]) == ("3", "5", 7)
    with pytest.raises(cs.UserError, match="exists; choose another name"):
        model.save(file)
    with pytest.raises(cs.UserError, match="must end in .safetensors"):
        model.save(tmp_path / "run.pt")


def test_weights_are_not_written_into_the_workdir(model, tmp_path):
    with pytest.raises(cs.UserError, match="to = .*lies in the workdir"):
        dataclasses.replace(model, workdir=tmp_path).save(tmp_path / "eval" / "run.safetensors")
    assert not any(tmp_path.iterdir())


def test_numbers_of_numpy_and_keys_are_taken_as_plain_seeds(model, monkeypatch):
    def drawn(spec, params, prompts):
        return jax.random.uniform(prompts.key, (len(prompts.conditioning), 8, 8, 3))

    monkeypatch.setattr(model_module, "_draw", drawn)
    plain = model.sample(np.zeros(11), key=3, n=2)
    assert plain.shape == (2, 8, 8, 3)
    for key in (np.int64(3), jnp.int32(3), rng.run_key(3), jax.random.PRNGKey(3)):
        np.testing.assert_array_equal(model.sample([0] * 11, key=key, n=np.int32(2), guidance=np.float32(1)), plain)


VECTOR, ROWS = np.zeros(11), "must have the shape .11. or .b, 11., b at least 1"


@pytest.mark.parametrize(
    ("conditioning", "options", "words"),
    [
        *((VECTOR, {"n": n}, "n = .*: must be a whole number") for n in (1.0, 2.5, "2", None, True, np.True_, [1])),
        (VECTOR, {"n": 0}, "n = 0: must be at least 1"),
        *((VECTOR, {"key": key}, "key = .*: must be a whole number") for key in (1.5, None, "0", False, jnp.zeros(2))),
        (VECTOR, {"key": 2**64}, "key = .*: must be a whole number of 64 bits"),
        *((VECTOR, {"guidance": w}, "guidance = .*: must be None or a finite") for w in ("2", np.nan, True, [1, [2]])),
        *((one, {}, "cs.data.prompt makes them") for one in ("blue small", None, [[0.0, 1.0], [0.0]])),
        (np.zeros((0, 11)), {}, ROWS),
        (np.zeros(3), {}, ROWS),
        (np.full(11, np.nan), {}, "conditioning = .*: must be finite numbers"),
        (np.full((2, 11), 1e39), {}, "conditioning = .*: must be finite numbers"),
    ],
)
def test_what_cannot_be_sampled_is_one_line(conditioning, options, words, model):
    with pytest.raises(cs.UserError, match=words) as error:
        model.sample(conditioning, **options)
    assert "\n" not in str(error.value)

"""A run's network in the user's hands: its weights, written and read back."""

import io
import json

import jax
import numpy as np
import pytest
import tiny

import cspace_jax as cs
from cspace_jax.config.setting import Setting
from cspace_jax.evaluation.probe import ProbeSpec
from cspace_jax.evaluation.spec import EvalSpec
from cspace_jax.model import torch_weights, vdm
from cspace_jax.pipeline.model import Model
from cspace_jax.training.run import TrainSpec

CONFIG = tiny.study(evaluate={"samples_per_class": 3, "keep_samples": 2})


def test_weights_of_a_run_are_a_file_that_is_read_back_bit_for_bit(tmp_path):
    train, draw = TrainSpec.from_config(CONFIG), np.random.default_rng(0)
    spec = EvalSpec.from_config(CONFIG, train, ProbeSpec.from_config(CONFIG))
    shapes = jax.eval_shape(lambda key: vdm.init_params(train.vdm, key), jax.random.key(0))
    params = jax.tree.map(lambda leaf: draw.standard_normal(leaf.shape).astype(np.float32), shapes)
    model = Model(spec, params, Setting(seed=np.uint32(7)), 3, 5)
    file = model.save(tmp_path / "w" / "run.safetensors")
    back = torch_weights.vdm_params(train.vdm.network, torch_weights.read_state_dict(str(file)), "learned_linear")
    tiny.assert_same_bits(back, params)
    size = int.from_bytes(file.read_bytes()[:8], "little")  # of the header
    facts = json.load(io.BytesIO(file.read_bytes()[8 : 8 + size]))["__metadata__"]
    assert (facts["run"], facts["step"], json.loads(facts["setting"])["seed"]) == ("3", "5", 7)
    with pytest.raises(cs.UserError, match="exists; choose another name"):
        model.save(file)
    with pytest.raises(cs.UserError, match="must end in .safetensors"):
        model.save(tmp_path / "run.pt")

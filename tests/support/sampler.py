"""The sampler of studies with noises that a test gives."""

from unittest import mock

import jax

from cspace_jax.config import DataConfig, EvaluateConfig, OptimConfig
from cspace_jax.config.schema import ElicitConfig
from cspace_jax.data.renderer import Renderer
from cspace_jax.evaluation import sampling
from cspace_jax.evaluation.probe import ProbeSpec
from cspace_jax.evaluation.prompts import Prompts
from cspace_jax.evaluation.spec import EvalSpec
from cspace_jax.training.run import TrainSpec


def draw(model, params, conditioning, noise, steps, guidance=1.0):
    """Draw samples [b, h, w, c]: `noise(0)` is the start z_1 and `noise(i + 1)` the noise of step i."""
    train = TrainSpec(model, Renderer(DataConfig()), OptimConfig())
    evaluate = EvaluateConfig(sampling_steps=steps, guidance=guidance)
    spec = EvalSpec(train, evaluate, ProbeSpec(model.network, 2), ElicitConfig(), (1, 1, len(conditioning)))
    prompts = Prompts(conditioning, jax.random.key(0))
    with mock.patch.object(sampling, "_noise", lambda spec, prompts, i: noise(i)):
        return jax.jit(lambda params: sampling.draw(spec, params, prompts))(params)

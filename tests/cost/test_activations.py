"""What a training step holds: the peak of stages by hand, and the parameters of a network's stages."""

import dataclasses
import itertools

import jax
import pytest
import tiny

from cspace_jax.config import DiffusionConfig
from cspace_jax.config.plan import Plan
from cspace_jax.config.schema import CONDITIONINGS
from cspace_jax.cost import activations
from cspace_jax.cost.activations import Stage
from cspace_jax.model import unet, vdm
from cspace_jax.training.run import TrainSpec

CONFIG = tiny.study()
PARTS = [Stage(10, kept=3), Stage(20, turned=5, kept=2, passing=7)]


def test_the_peak_of_two_stages_by_hand():
    # In the backward pass of the second: what both keep of four samples, what passes, a turned kernel, its gradients.
    assert activations._peak(PARTS, 4, cut=False) == 4 * (3 + 2) + 4 * 7 + 5 + 20
    # With one sample all gradients weigh more: the peak is where the first stage's join the second's.
    assert activations._peak([Stage(100, kept=3), PARTS[1]], 1, cut=False) == 3 + 100 + 20
    # A forward pass that reserves what its loops give peaks before the first stage has done its part.
    loops = [Stage(0, kept=1), Stage(0, kept=2, loops=50, loops_back=9)]
    assert activations._peak(loops, 2, cut=False) == 2 * 1 + 2 * 50 + 2 * 9


def test_kernels_for_winograd_are_held_from_the_first_microbatch_to_the_last():
    parts = [Stage(0, kept=1), Stage(0, kept=1, prepared=30)]
    assert activations._peak(parts, 1, cut=False) == 1 + 2 * 30
    assert activations._peak(parts, 1, cut=True) == 2
    plans = [Plan("winograd", "loop", microbatch=size) for size in (0, 2)]
    whole, cut = (TrainSpec.from_config(CONFIG, plan) for plan in plans)
    assert (whole.microbatches, cut.microbatches) == (1, 2)
    more = [
        activations.step_bytes(one, [Stage(7, prepared=30)]) - activations.step_bytes(one, [Stage(7)])
        for one in (whole, cut)
    ]
    assert more[1] - more[0] == 4 * 30  # beside the blocks: once as they are, once turned


@pytest.mark.parametrize(
    ("conditioning", "attention"), list(zip(CONDITIONINGS, itertools.cycle((True, False)), strict=False))
)
def test_stages_make_the_gradient_of_every_parameter(conditioning, attention):
    network = dataclasses.replace(tiny.NETWORK, conditioning=conditioning, attention=attention)
    spec = vdm.Vdm.from_config(network, DiffusionConfig(), "xla").network
    shapes = jax.eval_shape(lambda key: unet.init_params(spec, key), jax.random.key(0))
    parts = list(activations.stages(spec, 8))
    assert sum(one.parameters for one in parts) == unet.count_params(shapes)
    kept = sum(one.kept for one in parts)
    assert kept < sum(one.kept for one in activations.stages(dataclasses.replace(spec, convolution="matmul"), 8))

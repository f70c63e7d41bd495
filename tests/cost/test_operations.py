"""Operations and parameters in closed form against what XLA and JAX count in the programs themselves."""

import functools

import jax
import jax.numpy as jnp
import pytest
import tiny

from cspace_jax.config import from_config_dict, grid
from cspace_jax.cost import operations
from cspace_jax.evaluation import probe
from cspace_jax.model import unet, vdm
from cspace_jax.studies import guidance, signal, underspec
from cspace_jax.training.run import TrainSpec, init_run, make_data, train_step

pytestmark = pytest.mark.network

CONFIGS = {
    "paper": from_config_dict(signal.get_config("paper")),
    "quick, guided": from_config_dict(guidance.get_config("quick")),
    "quick, masked": from_config_dict(underspec.get_config("quick")),
    "shared embedding, averaged, a token": tiny.study(
        data={"image_size": 16, "mask_mode": "token"},
        network={"channels": (16, 24, 32), "blocks": 2, "conditioning": "common_linear"},
        optim={"ema": 0.9, "batch_size": 16},
        diffusion={"schedule": "fixed_linear"},
    ),
    "apart and linear": tiny.study(
        data={"image_size": 16}, network={"channels": (16, 24), "blocks": 1, "conditioning": "sep_linear"}
    ),
    "shared embedding, MLPs": tiny.study(
        data={"image_size": 16}, network={"channels": (16, 24), "blocks": 1, "conditioning": "common_mlp"}
    ),
}


def counted(function, *arguments):
    """XLA's count of the operations of a program, of which it knows shapes only."""
    return jax.jit(function).lower(*arguments).cost_analysis()["flops"]


@pytest.mark.parametrize("name", CONFIGS)
def test_sums_are_those_of_the_programs(name):
    config = CONFIGS[name]
    spec, setting = TrainSpec.from_config(config), grid.example_setting(config.grid)
    state = jax.eval_shape(functools.partial(init_run, spec), setting)
    data = jax.eval_shape(functools.partial(make_data, spec), setting)
    step = jax.ShapeDtypeStruct((), jnp.int32)
    assert operations.parameters(config) == unet.count_params(state.params)
    expected = counted(lambda *a: train_step(spec, *a), state, setting, data, (), step)
    assert operations.step_flops(config) == pytest.approx(expected, rel=0.03)
    side = config.data.image_size
    image = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((1, side, side, 3), (1,), (1, 11))]
    expected = counted(lambda params, *a: vdm.eps_hat(spec.vdm, params, *a), state.params, *image)
    assert operations.image_flops(config) == pytest.approx(expected, rel=0.03)


def test_parameters_of_a_probe_that_widens_its_input():
    backbone = probe.ProbeSpec.from_config(CONFIGS["paper"]).unet
    shapes = jax.eval_shape(lambda key: unet.init_params(backbone, key), jax.random.key(0))
    assert backbone.out_channels != backbone.in_channels
    assert operations.unet_parameters(backbone) == unet.count_params(shapes)


def test_sampling_is_counted_for_every_image_that_is_drawn():
    config = tiny.study(evaluate={"samples_per_class": 5, "sampling_steps": 7})
    one = operations.image_flops(config)
    assert operations.evaluation_flops(config) == 4 * 5 * 7 * one and operations.battery_flops(config) == 0
    asked = tiny.changed(config, elicit={"protocols": ("overprompt", "patch"), "overprompt": (1.0, 2.0), "samples": 3})
    assert operations.battery_flops(asked) == (1 + 2 + 1) * 3 * 7 * one  # naive prompting too; class 11 alone
    assert operations.study_flops(asked)["battery"] == 4 * (1 + 3) * operations.battery_flops(
        asked
    )  # runs, steps from 0
    drawn = operations.study_flops(config)["evaluation"] / (4 * 3) - operations.evaluation_flops(config)
    assert drawn == operations.loss_flops(config) > 0  # four runs, three saves
    silent = tiny.changed(config, evaluate={"losses": False})
    assert operations.loss_flops(silent) == 0
    guided = tiny.changed(config, evaluate={"guidance": 2.0}, diffusion={"p_uncond": 0.1})
    assert operations.evaluation_flops(guided) == 2 * operations.evaluation_flops(config)

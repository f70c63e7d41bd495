"""The checks of a configuration: what is refused, in one line, and what is allowed though it looks odd."""

import pytest

from configs import changed, make
from cspace_jax.config import from_config_dict
from cspace_jax.errors import UserError

NAN, INF = float("nan"), float("inf")

# (overrides, field named in the message, further pieces of the message: the value and what is allowed)
BAD = [
    ({"optim.stepz": 10}, "optim.stepz", ["10", "unknown field", "did you mean 'steps'"]),
    ({"optimizer": {"steps": 3}}, "optimizer", ["unknown field", "did you mean 'optim'"]),
    ({"data.qqqq": 1}, "data.qqqq", ["unknown field", "image_size"]),
    ({"optim.steps": 10.5}, "optim.steps", ["10.5", "integer"]),
    ({"optim.steps": True}, "optim.steps", ["True", "integer"]),
    ({"optim.steps": 0}, "optim.steps", ["0", "[1, 2147483647]"]),
    ({"optim.clip": "no"}, "optim.clip", ["'no'", "number"]),
    ({"optim.clip": None}, "optim.clip", ["None", "number"]),
    ({"optim.clip": 0.0}, "optim.clip", ["0.0", "above 0"]),
    ({"optim.clip": 10**400}, "optim.clip", ["finite"]),
    ({"optim.eps": NAN}, "optim.eps", ["nan", "finite"]),
    ({"optim.b2": 1.0}, "optim.b2", ["1.0", "[0, 1)"]),
    ({"optim.ema": -0.1}, "optim.ema", ["-0.1", "[0, 1)"]),
    ({"optim.decay": "cosin"}, "optim.decay", ["'cosin'", "constant, cosine", "did you mean 'cosine'"]),
    ({"optim.log_every": 0}, "optim.log_every", ["0", "at least 1"]),
    ({"optim.batch_size": 6000}, "optim.batch_size", ["6000", "5222"]),
    ({"optim": 3}, "optim", ["3", "group of fields"]),
    ({"grid.seeds": ()}, "grid.seeds", ["()", "at least one"]),
    ({"grid.seeds": (0, 1, 0)}, "grid.seeds", ["(0, 1, 0)", "distinct"]),
    ({"grid.seeds": (-1,)}, "grid.seeds[0]", ["-1", "[0, 4294967295]"]),
    ({"grid.seeds": (2**32,)}, "grid.seeds[0]", ["4294967296"]),
    ({"grid.seeds": (0.5,)}, "grid.seeds[0]", ["0.5", "integer"]),
    ({"grid.sep_col": ()}, "grid.sep_col", ["()", "at least one"]),
    ({"grid.sep_col": (0.2, -0.4)}, "grid.sep_col[1]", ["-0.4", "(0, 0.8]"]),
    ({"grid.sep_col": (0.0,)}, "grid.sep_col[0]", ["0.0", "(0, 0.8]"]),
    ({"grid.sep_col": (0.9,)}, "grid.sep_col[0]", ["0.9", "(0, 0.8]", "[0, 1]"]),
    ({"grid.sep_col": (0.2, 0.2)}, "grid.sep_col", ["distinct", "0.2"]),
    ({"grid.sep_col": (INF,)}, "grid.sep_col[0]", ["inf", "finite"]),
    ({"grid.sep_size": (0.75,)}, "grid.sep_size[0]", ["0.75", "(0, 0.7]", "at least 0.1"]),
    ({"grid.sep_bg": (0.81,)}, "grid.sep_bg[0]", ["0.81", "(0, 0.8]"]),
    ({"grid.sep_bg": (0.1, 0.2)}, "grid.sep_bg", ["(0.1, 0.2)", "bg_color"]),
    ({"grid.learning_rate": (0.0,)}, "grid.learning_rate[0]", ["0.0", "above 0"]),
    ({"grid.weight_decay": (-0.01,)}, "grid.weight_decay[0]", ["-0.01", "at least 0"]),
    ({"grid.init_scale": (0,)}, "grid.init_scale[0]", ["0.0", "above 0"]),
    ({"grid.data_noise": (0.0,)}, "grid.data_noise[0]", ["0.0", "[1e-06, 1]"]),
    ({"data.image_size": 30}, "data.image_size", ["30", "divisible by 4", "network.channels"]),
    ({"data.image_size": 34, "network.channels": (8, 8)}, "data.image_size", ["34", "by 4", "probe.channels"]),
    ({"data.image_size": 2}, "data.image_size", ["2", "[4, 1024]"]),
    ({"data.blur": -1.0}, "data.blur", ["-1.0", "at least 0"]),
    ({"data.blur": 9.0}, "data.blur", ["9.0", "image_size / 4 = 8"]),
    ({"data.train_ratio": 1.0}, "data.train_ratio", ["1.0", "(0, 1)"]),
    ({"data.train_ratio": 0.0001}, "data.train_ratio", ["0.0001", "6144"]),
    ({"data.images_per_class": 0}, "data.images_per_class", ["0", "at least 1"]),
    ({"data.active": ("colour", "size")}, "data.active", ["'colour'", "did you mean 'color'"]),
    ({"data.active": ("size", "color")}, "data.active", ["('size', 'color')", "order shape, x, y, color"]),
    ({"data.active": ("color",)}, "data.active", ["('color',)", "2 to 6"]),
    ({"data.active": ("color", "color")}, "data.active", ["distinct"]),
    ({"data.active": ()}, "data.active", ["()", "2 to 6"]),
    ({"network.channels": ()}, "network.channels", ["()", "at least one level"]),
    ({"network.channels": (64, 0)}, "network.channels[1]", ["0", "at least 1"]),
    ({"network.channels": (64, 100)}, "network.groups", ["8", "network.channels[1] = 100"]),
    ({"network.heads": 3}, "network.heads", ["3", "network.channels[-1] = 256"]),
    ({"network.attention": 1}, "network.attention", ["1", "True or False"]),
    ({"network.dropout": 1.0}, "network.dropout", ["1.0", "[0, 1)"]),
    ({"network.conditioning": "sepmlp"}, "network.conditioning", ["'sepmlp'", "did you mean 'sep_mlp'"]),
    ({"diffusion.schedule": "cosine"}, "diffusion.schedule", ["'cosine'", "learned_linear, fixed_linear"]),
    ({"diffusion.gamma_min": 11.0}, "diffusion.gamma_min", ["11.0", "below diffusion.gamma_max = 10"]),
    ({"diffusion.gamma_max": 60.0}, "diffusion.gamma_max", ["60.0", "[-50, 50]"]),
    ({"diffusion.p_uncond": 1.0}, "diffusion.p_uncond", ["1.0", "[0, 1)"]),
    ({"diffusion.null_value": -INF}, "diffusion.null_value", ["-inf", "finite"]),
    ({"grid.init_scale": (1e39,)}, "grid.init_scale[0]", ["1e+39", "a number of float32"]),
    ({"optim.eps": -1e308}, "optim.eps", ["-1e+308", "a number of float32"]),
    ({"save.start": 30_000}, "save.start", ["30000", "optim.steps = 20000"]),
    ({"save.start": 0}, "save.start", ["0", "at least 1"]),
    ({"save.count": 0}, "save.count", ["0", "in [1, 100000]"]),
    ({"save.steps": (5, 20_001)}, "save.steps[1]", ["20001", "optim.steps = 20000"]),
    ({"save.steps": (0, 5)}, "save.steps[0]", ["0", "at least 1"]),
    ({"save.steps": (5, 2)}, "save.steps", ["(5, 2)", "increase"]),
    ({"save.steps": (5, 5)}, "save.steps", ["(5, 5)", "distinct"]),
    ({"save.steps": ("5",)}, "save.steps[0]", ["'5'", "integer"]),
    ({"save.steps": (5, 9), "save.keep_steps": (5, 8)}, "save.keep_steps[1]", ["8", "2 saved steps", "nearest is 9"]),
    ({"save.steps": (5, 9), "save.keep_steps": (5, 5)}, "save.keep_steps", ["(5, 5)", "distinct"]),
    ({"save.steps": (5, 9), "save.keep_states": (1,)}, "save.keep_states[0]", ["1", "nearest is 5"]),
    ({"save.keep": "lasst"}, "save.keep", ["'lasst'", "did you mean 'last'"]),
    ({"save.limit_gb": -1.0}, "save.limit_gb", ["-1.0", "at least 0"]),
    ({"evaluate.guidance": 2.0}, "evaluate.guidance", ["2.0", "diffusion.p_uncond"]),
    ({"evaluate.guidance": -1.0}, "evaluate.guidance", ["-1.0", "at least 0"]),
    ({"evaluate.sampling_steps": 0}, "evaluate.sampling_steps", ["0", "at least 1"]),
    ({"evaluate.keep_samples": 33}, "evaluate.keep_samples", ["33", "samples_per_class = 32"]),
    ({"probe.data": ()}, "probe.data", ["()", "at least one row"]),
    ({"probe.data": 0.2}, "probe.data", ["0.2", "list"]),
    ({"probe.data": ((0.2, 0.1, 0.2),)}, "probe.data[0]", ["4 entries, not 3"]),
    ({"probe.data": ((0.2, 0.1, 0.2, 1),)}, "probe.data[0][3]", ["1", "True or False"]),
    ({"probe.data": ((0.9, 0.1, 0.2, True),)}, "probe.data[0] sep_col", ["0.9", "(0, 0.8]"]),
    ({"probe.min_accuracy": 1.5}, "probe.min_accuracy", ["1.5", "[0, 1]"]),
    ({"probe.out_channels": 66}, "probe.groups", ["4", "probe.out_channels = 66"]),
    ({"probe.batch_size": 10**6}, "probe.batch_size", ["1000000", "16384"]),
    ({"engine.runs": "pmap"}, "engine.runs", ["'pmap'", "auto, vmap, map, unroll"]),
    ({"engine.convolution": "cudnn"}, "engine.convolution", ["'cudnn'", "auto, xla, canonical, winograd, matmul"]),
    ({"engine.wave": -1}, "engine.wave", ["-1", "at least 0"]),
    ({"scale": "tiny"}, "scale", ["'tiny'", "smoke, quick, paper"]),
    ({"study": "  "}, "study", ["name"]),
]


@pytest.mark.parametrize(("overrides", "field", "pieces"), BAD, ids=[f"{list(b[0])[0]}-{i}" for i, b in enumerate(BAD)])
def test_bad_input_is_one_line_that_names_field_value_and_what_is_allowed(overrides, field, pieces):
    with pytest.raises(UserError) as error:
        from_config_dict(make(overrides))
    message = str(error.value)
    assert message.startswith(f"{field} = ")
    assert len(message.splitlines()) == 1
    for piece in pieces:
        assert piece in message


@pytest.mark.parametrize(("sep", "name"), [(0.8, "sep_col"), (0.7, "sep_size"), (0.8, "sep_bg")])
def test_the_largest_separations_are_those_whose_ranges_just_fit(sep, name):
    assert getattr(changed(**{f"grid__{name}": (sep,)}).grid, name) == (sep,)
    if name == "sep_size":
        assert 0.45 - sep / 2 == pytest.approx(0.1)
    else:
        assert 0.5 + sep / 2 + sep / 8 == pytest.approx(1.0)


def test_guidance_is_allowed_with_unconditional_training():
    assert changed(diffusion__p_uncond=0.1, evaluate__guidance=3).evaluate.guidance == 3.0


def test_heads_do_not_matter_without_attention():
    assert not changed(network__heads=3, network__attention=False).network.attention


def test_several_backgrounds_are_allowed_when_background_is_a_concept():
    assert changed(data__active=("color", "size", "bg_color"), grid__sep_bg=(0.1, 0.2)).grid.num_runs == 10

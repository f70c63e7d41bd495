"""The configuration: reading, checking, save steps, JSON and comparison."""

import dataclasses
import json
import pathlib

import ml_collections
import numpy as np
import pytest

from cspace_jax.config import (
    Config,
    SaveConfig,
    differing_fields,
    from_config_dict,
    reading,
    reference,
    save_steps,
    to_dict,
)
from cspace_jax.config.concepts import SEPARATIONS, TABLE
from cspace_jax.config.fields import declared
from cspace_jax.data import concepts
from cspace_jax.errors import UserError

ROOT = pathlib.Path(__file__).resolve().parents[2]

PUBLISHED_COL_SWEEP = [
    *(500, 594, 696, 807, 926, 1053, 1188, 1331, 1482, 1642, 1809, 1985),
    *(2169, 2361, 2561, 2769, 2986, 3211, 3443, 3684, 3933, 4191, 4456, 4729),
    *(5011, 5301, 5599, 5905, 6219, 6541, 6872, 7211, 7557, 7912, 8275, 8647),
    *(9026, 9414, 9809, 10213, 10625, 11045, 11473, 11910, 12354, 12807, 13268, 13737),
    *(14214, 14699, 15192, 15694, 16204, 16721, 17247, 17782, 18324, 18874, 19433, 20000),
]

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


def make(overrides: dict | None = None) -> ml_collections.ConfigDict:
    """Return a full ConfigDict at the defaults with dotted overrides, types unchecked as in a user's config file."""
    tree = to_dict(Config(study="signal", scale="paper"))
    for name, value in (overrides or {}).items():
        *groups, leaf = name.split(".")
        node = tree
        for group in groups:
            node = node[group]
        node[leaf] = value
    return ml_collections.ConfigDict(tree)


def changed(**overrides: object) -> Config:
    return from_config_dict(make({name.replace("__", "."): value for name, value in overrides.items()}))


@pytest.mark.parametrize(("overrides", "field", "pieces"), BAD, ids=[f"{list(b[0])[0]}-{i}" for i, b in enumerate(BAD)])
def test_bad_input_is_one_line_that_names_field_value_and_what_is_allowed(overrides, field, pieces):
    with pytest.raises(UserError) as error:
        from_config_dict(make(overrides))
    message = str(error.value)
    assert message.startswith(f"{field} = ")
    assert len(message.splitlines()) == 1
    for piece in pieces:
        assert piece in message


def test_missing_study_is_refused_and_other_absent_fields_take_defaults():
    with pytest.raises(UserError, match="study is missing"):
        from_config_dict({"scale": "paper"})
    assert from_config_dict({"study": "signal", "scale": "paper"}) == Config(study="signal", scale="paper")


def test_a_source_that_is_no_mapping_is_refused():
    with pytest.raises(UserError, match="config = .*group of fields"):
        from_config_dict([1, 2])


def test_long_and_multi_line_values_stay_one_short_line():
    with pytest.raises(UserError) as error:
        changed(network__conditioning="a\nb" * 500)
    assert len(str(error.value)) < 300 and "\n" not in str(error.value)


@pytest.mark.parametrize(("sep", "name"), [(0.8, "sep_col"), (0.7, "sep_size"), (0.8, "sep_bg")])
def test_the_largest_separations_are_those_whose_ranges_just_fit(sep, name):
    assert getattr(changed(**{f"grid__{name}": (sep,)}).grid, name) == (sep,)
    if name == "sep_size":
        assert 0.45 - sep / 2 == pytest.approx(0.1)
    else:
        assert 0.5 + sep / 2 + sep / 8 == pytest.approx(1.0)


def test_scalars_lists_ints_and_numpy_numbers_are_converted():
    config = changed(grid__seeds=7, grid__sep_col=[0.2, np.float32(0.5)], optim__clip=1, optim__steps=np.int64(900))
    assert config.grid.seeds == (7,)
    assert config.grid.sep_col == (0.2, 0.5)
    assert (config.optim.clip, type(config.optim.clip)) == (1.0, float)
    assert (config.optim.steps, type(config.optim.steps)) == (900, int)


def test_guidance_is_allowed_with_unconditional_training():
    assert changed(diffusion__p_uncond=0.1, evaluate__guidance=3).evaluate.guidance == 3.0


def test_heads_do_not_matter_without_attention():
    assert not changed(network__heads=3, network__attention=False).network.attention


def test_several_backgrounds_are_allowed_when_background_is_a_concept():
    assert changed(data__active=("color", "size", "bg_color"), grid__sep_bg=(0.1, 0.2)).grid.num_runs == 10


def test_config_is_frozen_and_hashable():
    first, second = changed(), changed()
    assert hash(first) == hash(second) and first == second
    assert first != changed(optim__steps=900)
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.optim.steps = 3


def test_json_round_trip_is_exact():
    config = changed(grid__sep_col=(0.1, 0.174), save__steps=(1, 5, 9), data__active=("shape", "color", "size"))
    assert from_config_dict(json.loads(json.dumps(to_dict(config)))) == config


def test_every_field_is_declared_with_an_explanation_and_every_number_with_what_is_allowed():
    leaves = reading.flatten(to_dict(Config(study="signal", scale="paper")))
    found = {path: what for path, _, what in declared(Config)}
    assert list(found) == list(leaves)
    assert all(len(what.text) > 3 for what in found.values())
    numbers = {name for name, v in leaves.items() if not isinstance(v, str | bool | list)}
    assert numbers - {name for name, what in found.items() if what.interval} == {"diffusion.null_value"}
    text = {name for name, what in found.items() if what.names}
    assert {"scale", "network.conditioning", "optim.decay", "engine.precision"} <= text


def test_the_page_of_fields_is_what_the_declarations_say():
    page = (ROOT / "docs" / "config.md").read_text()
    assert page == reference.markdown(), "run: python -m cspace_jax.config.reference > docs/config.md"
    assert "| `optim.clip` | `0.01` | above 0 | global gradient norm" in page


def test_class_ranges_of_the_largest_separations_stay_in_range():
    largest = {path: what.interval.high for path, _, what in declared(Config) if what.interval}
    ranges = concepts.class_ranges(*(largest[f"grid.{name}"] for name in SEPARATIONS))
    for name in ("color", "bg_color"):
        mean, half_width = ranges.mean[name], ranges.spread[name]
        assert float(mean.min() - half_width) == pytest.approx(0, abs=1e-6)
        assert float(mean.max() + half_width) == pytest.approx(1, abs=1e-6)
    assert float(ranges.mean["size"].min()) == pytest.approx(TABLE["size"].least)


def test_image_counts_are_the_published_ones():
    two, three = changed().data, changed(data__active=("color", "size", "bg_color")).data
    assert (two.pool_images, two.train_images) == (6144, 5222)
    assert (three.pool_images, three.train_images) == (8192, 6963)


def test_save_steps_are_the_published_ones():
    assert list(save_steps(SaveConfig(start=500, count=60), 20_000)) == PUBLISHED_COL_SWEEP


def test_explicit_save_steps_win():
    assert save_steps(SaveConfig(start=500, count=60, steps=(1, 7)), 20_000) == (1, 7)


@pytest.mark.parametrize("total", [1, 2, 3, 7, 50, 1000])
@pytest.mark.parametrize("start", [1, 2, 3, 7, 50, 1000])
@pytest.mark.parametrize("count", [1, 2, 5, 400])
def test_save_steps_increase_from_start_to_the_end(total, start, count):
    if start > total:
        return
    steps = save_steps(SaveConfig(start=start, count=count), total)
    assert list(steps) == sorted(set(steps)) and all(type(step) is int for step in steps)
    assert steps[-1] == total and len(steps) <= count
    assert steps[0] == (start if count > 1 else total)


def test_differing_fields_are_named_in_order():
    first = changed()
    assert differing_fields(first, changed()) == []
    second = changed(grid__sep_col=(0.3,), optim__steps=900, probe__seed=1, optim__batch_size=32)
    assert differing_fields(first, second) == ["grid.sep_col", "optim.batch_size", "optim.steps", "probe.seed"]


def test_fields_that_never_change_a_result_do_not_differ():
    free = {
        "engine.steps_per_call": 3,
        "engine.microbatch": 2,
        "engine.runs": "map",
        "figures": (),
        "optim.log_every": 5,
        "probe.cache_dir": "x",
    }
    assert differing_fields(changed(), from_config_dict(make(free))) == []


def test_waves_are_part_of_a_workdir():
    # Checkpoints lie in one folder a wave, so another cut of the grid cannot resume them.
    assert differing_fields(changed(), from_config_dict(make({"engine.wave": 3}))) == ["engine.wave"]


def test_precision_is_part_of_a_workdir():
    other = from_config_dict(make({"engine.precision": "bfloat16"}))
    assert differing_fields(changed(), other) == ["engine.precision"]


def test_a_closed_bound_is_met_by_its_float32_rounding_and_an_open_one_is_not():
    rounded = float(np.float32(0.8))
    assert rounded > 0.8
    assert changed(grid__sep_col=(rounded,), probe__data=((rounded, 0.1, 0.2, True),)).grid.sep_col == (0.8,)
    with pytest.raises(UserError, match=r"grid.sep_col\[0\] = 0.80001: must be in"):
        changed(grid__sep_col=(0.80001,))
    with pytest.raises(UserError, match="optim.b2 = 1.0: must be in"):
        changed(optim__b2=1.0)
    kept = changed(grid__mask=(0.0,)).grid.mask[0]
    assert type(kept) is float and kept == 0.0


def test_arrays_ranges_and_whole_floats_are_taken_for_tuples_and_integers():
    config = changed(grid__seeds=range(3), grid__sep_col=np.linspace(0.2, 0.8, 3), optim__steps=1e3)
    assert (config.grid.seeds, config.grid.sep_col, config.optim.steps) == ((0, 1, 2), (0.2, 0.5, 0.8), 1000)
    assert type(config.optim.steps) is int
    rows = changed(probe__data=np.array([(0.2, 0.1, 0.2, False)], dtype=object)).probe.data
    assert rows == ((0.2, 0.1, 0.2, False),)

"""A configuration as JSON and back, and which fields make two of them differ."""

import json

from configs import changed, make
from cspace_jax.config import differences, differing_fields, from_config_dict, to_dict


def test_json_round_trip_is_exact():
    config = changed(grid__sep_col=(0.1, 0.174), save__steps=(1, 5, 9), data__active=("shape", "color", "size"))
    assert from_config_dict(json.loads(json.dumps(to_dict(config)))) == config


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


def test_a_difference_has_both_values_and_says_whether_it_counts():
    found = differences(changed(), changed(grid__sep_col=(0.3,), engine__steps_per_call=7))
    assert [(one.field, one.first, one.second, one.affects_results) for one in found] == [
        ("grid.sep_col", [0.2], [0.3], True),
        ("engine.steps_per_call", 0, 7, False),
    ]
    assert differences(changed(), changed()) == []

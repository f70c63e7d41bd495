"""Nested mappings as typed dataclasses: what is converted, what is refused, bounds met by rounding."""

import numpy as np
import pytest

from configs import changed
from cspace_jax.config import Config, from_config_dict, reading
from cspace_jax.errors import UserError


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


def test_scalars_lists_ints_and_numpy_numbers_are_converted():
    config = changed(grid__seeds=7, grid__sep_col=[0.2, np.float32(0.5)], optim__clip=1, optim__steps=np.int64(900))
    assert config.grid.seeds == (7,)
    assert config.grid.sep_col == (0.2, 0.5)
    assert (config.optim.clip, type(config.optim.clip)) == (1.0, float)
    assert (config.optim.steps, type(config.optim.steps)) == (900, int)


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


def test_leaves_are_found_under_their_dotted_names_and_tuples_are_lists():
    assert reading.flatten({"a": {"b": {"c": 1}, "d": (2,)}, "e": {}}) == {"a.b.c": 1, "a.d": (2,)}
    leaves = reading.flatten(reading.plain(changed(network__channels=(8, 16))))
    assert leaves["network.channels"] == [8, 16] and leaves["probe.data"][0] == [0.2, 0.1, 0.2, False]


@pytest.mark.parametrize("value", [1.5, float("inf"), float("nan")])
def test_what_is_not_whole_is_no_whole_number(value):
    assert reading.whole_number(1e3) == 1000 and type(reading.whole_number(1e3)) is int
    with pytest.raises(ValueError, match="must be an integer"):
        reading.whole_number(value)

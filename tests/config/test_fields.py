"""Declarations of fields: every one is explained, every number has its bounds."""

import dataclasses

import numpy as np
import pytest

from cspace_jax.config import Config, fields, reading, to_dict
from cspace_jax.config.fields import declared


def test_every_field_is_declared_with_an_explanation_and_every_number_with_what_is_allowed():
    leaves = reading.flatten(to_dict(Config(study="signal", scale="paper")))
    found = {path: what for path, _, what in declared(Config)}
    assert list(found) == list(leaves)
    assert all(len(what.text) > 3 for what in found.values())
    numbers = {name for name, v in leaves.items() if not isinstance(v, str | bool | list)}
    assert numbers - {name for name, what in found.items() if what.interval} == {"diffusion.null_value"}
    text = {name for name, what in found.items() if what.names}
    assert {"scale", "network.conditioning", "optim.decay", "engine.precision"} <= text


@pytest.mark.parametrize(
    ("ends", "words", "inside", "outside"),
    [
        (fields.Interval(0), "at least 0", (0, 1e9), (-1e-9,)),
        (fields.Interval(0, open_low=True), "above 0", (1e-9,), (0, -1)),
        (fields.Interval(1, 2**31 - 1), "in [1, 2147483647]", (1, 2**31 - 1), (0, 2**31)),
        (fields.Interval(0, 0.8, open_low=True), "in (0, 0.8]", (0.8, float(np.float32(0.8))), (0.0, 0.80001)),
        (fields.Interval(0, 1, open_high=True), "in [0, 1)", (0, 0.9999), (1.0, float(np.nextafter(1, 2)))),
    ],
)
def test_an_interval_says_what_it_holds(ends, words, inside, outside):
    assert str(ends) == words
    assert all(value in ends for value in inside) and not any(value in ends for value in outside)


def test_only_what_misses_a_closed_end_by_rounding_is_put_there():
    ends = fields.Interval(0.1, 0.8)
    below, above = float(np.float32(0.1)) - 2e-9, float(np.float32(0.8))
    assert below < 0.1 and above > 0.8
    assert (ends.met(below), ends.met(above)) == (0.1, 0.8)
    within = float(np.nextafter(0.8, 0))
    assert ends.met(within) == within and ends.met(0.9) == 0.9
    assert fields.Interval(0, 0.8, open_high=True).met(above) == above


def test_groups_are_declared_under_their_dotted_names_in_order():
    @dataclasses.dataclass(frozen=True)
    class Group:
        first: int = fields.field(1, "one", at_least=0, affects_results=False)
        second: str = fields.field("a", "two", one_of=("a", "b"))

    @dataclasses.dataclass(frozen=True)
    class Whole:
        name: float = fields.field(0.5, "three", above=0, below=1, reason="so")
        undeclared: int = 3
        group: Group = Group()

    found = {path: (one.default, what) for path, one, what in declared(Whole)}
    assert list(found) == ["name", "group.first", "group.second"]
    assert [default for default, _ in found.values()] == [0.5, 1, "a"]
    assert [what.allowed for _, what in found.values()] == ["in (0, 1)", "at least 0", "a, b"]
    assert [what.affects_results for _, what in found.values()] == [True, False, True]


def test_open_ends_are_kept_as_float32():
    below, above = fields.Interval(0.0, 1.0, open_high=True), fields.Interval(0.0, open_low=True)
    assert 0.9999999 in below and 0.99999999999 not in below
    assert 1e-40 in above and 1e-46 not in above

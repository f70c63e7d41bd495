"""Which protocols and controls the results take of several batteries, and what is said of those left out."""

import pytest
from etils import epath

from cspace_jax.evaluation import protocols
from cspace_jax.pipeline import merged_batteries

FIRST, SECOND = epath.Path("elicit/1"), epath.Path("elicit/2")


def battery(*names, controls=protocols.CONTROLS):
    return {"protocols": list(names), "controls": controls}


@pytest.mark.parametrize(
    ("first", "second", "taken"),
    [
        # A protocol of both is that of the first.
        (["naive", "latent"], ["naive", "latent", "patch"], [{"naive", "latent"}, {"patch"}]),
        # Its control comes from there alone, though the second measured it too.
        (["naive", "latent"], ["naive", "latent", "latent_random"], [{"naive", "latent"}, set()]),
        # With its protocol a control comes from the second.
        (["naive"], ["naive", "latent", "latent_random"], [{"naive"}, {"latent", "latent_random"}]),
        # A control without a protocol is its own; the protocol of a later battery is never paired with it.
        (["naive", "latent_random"], ["latent"], [{"naive"}, {"latent"}]),
        (["naive", "latent_random"], ["patch"], [{"naive", "latent_random"}, {"patch"}]),
    ],
)
def test_a_control_comes_from_the_battery_of_its_protocol(first, second, taken, capsys):
    found = merged_batteries._taken({FIRST: battery(*first), SECOND: battery(*second)})
    assert found == dict(zip((FIRST, SECOND), taken, strict=True))
    left = {*first, *second} - set.union(*taken)
    said = capsys.readouterr().out.splitlines()
    assert len(said) == len(left)
    for line, name in zip(said, left, strict=True):
        assert name in line and "measured with another battery of their protocol; ask for them again" in line


def test_controls_that_an_older_version_drew_are_left_out_and_its_protocols_stay(capsys):
    old = battery("naive", "latent", "latent_random", "latent_random", controls="older")
    assert merged_batteries._taken({FIRST: old}) == {FIRST: {"naive", "latent"}}
    said = capsys.readouterr().out
    assert said.count("latent_random") == 1 and f"of {FIRST} are left out" in said and "an older version" in said


def test_a_control_of_an_older_version_does_not_stand_in_the_way_of_a_newer_one():
    old = battery("naive", "latent_random", controls="older")
    found = merged_batteries._taken({FIRST: old, SECOND: battery("naive", "latent_random")})
    assert found == {FIRST: {"naive"}, SECOND: {"latent_random"}}

"""What all studies share: the defaults, and the scales."""

import jax
import pytest

from configs import STUDIES, study
from cspace_jax.config import Config, from_config_dict, reading, to_dict
from cspace_jax.errors import UserError


def test_config_file_defaults_agree_with_the_dataclasses():
    source = study("base").get_config("signal", "paper")
    assert from_config_dict(source) == Config(study="signal", scale="paper")
    assert reading.flatten(source.to_dict()).keys() == reading.flatten(to_dict(from_config_dict(source))).keys()


def test_no_scale_follows_the_backend(monkeypatch):
    module = study("signal")
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert module.get_config().scale == "quick"
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert module.get_config().scale == "paper"


@pytest.mark.parametrize("name", STUDIES)
def test_unknown_scale_names_the_allowed_ones(name):
    with pytest.raises(UserError, match="scale = 'papr': must be one of smoke, quick, paper, did you mean 'paper'"):
        study(name).get_config("papr")

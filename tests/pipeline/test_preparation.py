"""What is refused before a stage begins."""

import pytest

import cspace_jax as cs
from cspace_jax.pipeline import preparation
from cspace_jax.pipeline.api import ExportRequest, ReplayRequest


def test_a_request_goes_with_its_own_mode_alone():
    preparation.check_arguments("replay", None, ReplayRequest(steps=(3,)), None)
    preparation.check_arguments("export", None, None, ExportRequest("there"))
    with pytest.raises(cs.UserError, match="^replay: this request only goes with mode='replay', this is mode='eval'$"):
        preparation.check_arguments("eval", None, ReplayRequest(steps=(3,)), None)
    with pytest.raises(cs.UserError, match="^export: this request only goes with mode='export'"):
        preparation.check_arguments("all", None, None, ExportRequest("there"))
    with pytest.raises(cs.UserError, match="^outdir = 'there': only goes with --mode="):
        preparation.check_arguments("train", "there", None, None)

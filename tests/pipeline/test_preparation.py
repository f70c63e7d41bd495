"""What is refused before a stage begins."""

import pytest
import synthetic

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


def test_figures_and_pages_go_into_no_workdir(tmp_path):
    synthetic.workdir(tmp_path / "w")
    preparation.check_arguments("figures", tmp_path / "new", None, None)
    for mode, place in (("report", tmp_path / "w"), ("figures", tmp_path / "w" / "figures")):
        with pytest.raises(cs.UserError, match="^outdir = '.*': lies in the workdir '.*/w', must be another folder$"):
            preparation.check_arguments(mode, place, None, None)
    with pytest.raises(cs.UserError, match="^outdir = '': must be the path of a folder$"):
        preparation.check_arguments("figures", "", None, None)

"""Sample images that are stored, and figures where some are gone or damaged."""

import dataclasses

import pytest
import tiny

from cspace_jax.analysis.dataset import Measurements, build_dataset
from cspace_jax.config import grid, to_dict
from cspace_jax.data import concepts
from cspace_jax.errors import UserError
from cspace_jax.pipeline import stages
from cspace_jax.plots import figures
from cspace_jax.storage import results
from cspace_jax.storage.evaluations import write_npz

pytestmark = pytest.mark.system  # elsewhere annotations are checked, for which mappings are looked into


@pytest.fixture
def drawn(study, evaluations):
    """Return the study with its evaluations and results, as one that draws such figures."""
    for step, arrays in evaluations.items():
        write_npz(study.waves[0].eval_file(step), arrays)
    classes = concepts.classes(study.config.data.active)
    measurements = Measurements(evaluations, grid.grid_settings(study.config.grid), classes)
    results.write_results(build_dataset(measurements, to_dict(study.config)), study.workdir)
    return lambda *names: tiny.in_workdir(study.workdir, dataclasses.replace(study.config, figures=names))


def test_figures_of_samples_are_left_out_where_evaluations_were_removed(drawn, monkeypatch, capsys):
    study = drawn("samples", "fig4")
    (wave,) = study.waves
    for number, step in enumerate(study.steps, 1):  # to free the disk; the samples lay in them
        wave.eval_file(step).unlink()
        gone = f"{number} of 3 evaluations are gone, the first {wave.eval_file(2)}"
        stages.draw(study)
        said = capsys.readouterr().out.splitlines()
        assert said == [f"figures: samples left out, {gone}", f"2 files in {study.workdir.figures}"]
        assert sorted(path.name for path in study.workdir.figures.iterdir()) == ["fig4.pdf", "fig4.png"]
        with pytest.raises(UserError, match=f"^figure samples: {gone}$"):
            study.figure("samples")
    monkeypatch.setattr(figures, "draw_all", lambda *_, **__: [])
    stages.draw(drawn("all"))
    assert capsys.readouterr().out.splitlines()[0] == f"figures: those of sample images are left out, {gone}"


def test_figures_that_need_no_samples_open_no_evaluation(drawn):
    study = drawn("fig4")
    study.waves[0].eval_file(5).write_bytes(b"damaged")
    stages.draw(study)
    assert study.figure("fig4").axes
    with pytest.raises(UserError, match=r"step_00000005\.npz cannot be read"):
        study.figure("samples")

"""An empty workdir; a study in one, and what could be measured of it."""

import numpy as np
import pytest
import synthetic
import tiny
from etils import epath

from cspace_jax.config import grid
from cspace_jax.data import concepts
from cspace_jax.storage.workdir import Workdir


@pytest.fixture
def workdir(tmp_path):
    (tmp_path / "w").mkdir()
    return Workdir(epath.Path(tmp_path / "w"))


@pytest.fixture
def study(tmp_path):
    return tiny.in_workdir(Workdir(epath.Path(tmp_path)), tiny.study())


@pytest.fixture
def evaluations(study):
    """The evaluations of a study by step, written nowhere: its runs learn, each at its own time."""
    settings = [dict(one) for one in grid.grid_settings(study.config.grid)]
    classes = concepts.classes(study.config.data.active)
    steps = (500, 5000, 15000)  # in the place of 2, 5 and 6
    prob = synthetic.coordinates(settings, classes, steps)
    draw = np.random.default_rng(0)
    return {
        step: {
            "prob_samples": np.moveaxis(synthetic.samples_of(prob[:, t]), -1, 2)[:, None].astype(np.float32),
            "loss": draw.random((4, 2, 4), np.float32), "mean_rgb": np.zeros((4, 1, 4, 3), np.float32),
            "schedule_b": np.zeros(4), "schedule_w": np.zeros(4),
            "samples": draw.integers(0, 255, (4, 4, 6, 8, 8, 3)).astype(np.uint8),
        }
        for t, step in enumerate(study.steps)
    }  # fmt: skip

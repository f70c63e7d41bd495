"""The paper's study of faces."""

import dataclasses

import faces
import pytest

from configs import study
from cspace_jax.config import from_config_dict
from cspace_jax.cost import memory, operations
from cspace_jax.pipeline import image_source


def test_the_papers_study_of_faces_has_its_size(tmp_path):
    """9,806,723 parameters of the network and two of the schedule; 1.8 TFLOP a step and 118 MB of state a run."""
    faces.write_celeba(tmp_path, 400)
    config = from_config_dict(study("celeba").get_config("paper"))
    data = dataclasses.replace(config.data, path=str(tmp_path), images_per_class=0, cache_dir=str(tmp_path / "cache"))
    config = dataclasses.replace(config, data=data, probe=dataclasses.replace(config.probe, batch_size=16))
    image_source.open_and_check(config)
    assert operations.parameters(config) == 9_806_723 + 2
    assert operations.step_flops(config) == pytest.approx(1.8e12, rel=0.05)
    assert memory.state_bytes(config) == pytest.approx(118e6, rel=0.01)

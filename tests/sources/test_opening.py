"""Where pictures may lie, and what a file of one's own may do."""

import pytest
from folders import fails

from cspace_jax.config import DataConfig
from cspace_jax.sources import opening


@pytest.mark.parametrize("path", ["memory://x", "gs://b/x", "file:///tmp/x", "hdfs://n/x"])
def test_pictures_are_on_this_machine(path):
    fails("must be a folder on this machine", opening.open_source, DataConfig(source="images", path=path))


def test_a_file_that_exits_is_one_line_that_names_its_place(tmp_path):
    (tmp_path / "bars.py").write_text("import sys\n\nsys.exit(0)\n")
    data = DataConfig(source=f"{tmp_path}/bars.py:Bars")
    fails(f"cannot be used, SystemExit: 0 ({tmp_path}/bars.py, line 3)", opening.open_source, data, field="data.source")


def test_a_generator_needs_images_on_both_sides_of_the_split(tmp_path):
    text = """
import cspace_jax as cs
import jax.numpy as jnp


class Bars(cs.Generator):
    concepts = {"tilt": ("flat", "upright"), "tone": ("dark", "bright")}

    def sample(self, setting, bits, key, at_mean):
        return bits

    def render(self, values):
        return jnp.zeros((8, 8, 3))
"""
    (tmp_path / "bars.py").write_text(text)
    for field, value in (("images_per_class", 0), ("train_ratio", 1e-9)):
        data = DataConfig(source=f"{tmp_path}/bars.py:Bars", image_size=8, **{field: value})
        fails("must leave images on both sides of", opening.open_source, data, field=f"data.{field}")

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

"""Where pictures may lie."""

import pytest
from folders import fails

from cspace_jax.config import DataConfig
from cspace_jax.sources import opening


@pytest.mark.parametrize("path", ["memory://x", "gs://b/x", "file:///tmp/x", "hdfs://n/x"])
def test_pictures_are_on_this_machine(path):
    fails("must be a folder on this machine", opening.open_source, DataConfig(source="images", path=path))

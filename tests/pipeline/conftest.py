"""An empty workdir."""

import pytest
from etils import epath

from cspace_jax.storage.workdir import Workdir


@pytest.fixture
def workdir(tmp_path):
    (tmp_path / "w").mkdir()
    return Workdir(epath.Path(tmp_path / "w"))

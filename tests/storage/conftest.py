"""Checkpoints that several files of tests read."""

from pathlib import Path

import pytest
from checkpoints import make_state

from cspace_jax.storage.checkpoint import CheckpointWriter


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "checkpoints"
    with CheckpointWriter(path) as writer:
        writer.save(500, make_state(0))
        writer.save(20, make_state(1))
    return path

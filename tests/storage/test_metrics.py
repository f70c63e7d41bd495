"""The log of a training."""

import json

import numpy as np
import pytest

from cspace_jax.storage.metrics import append_metrics, read_metrics


def test_metrics_of_nan_are_strict_json(tmp_path):
    file = tmp_path / "metrics.jsonl"
    append_metrics(file, [{"run": 0, "step": 1, "loss": np.float32(np.nan)}])
    assert json.loads(file.read_text(), parse_constant=pytest.fail)["loss"] is None
    assert read_metrics(file) == [{"run": 0, "step": 1, "loss": None}]

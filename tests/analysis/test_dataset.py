"""What is measured of samples, against loops, and the dataset that holds it."""

import numpy as np
import pytest
import synthetic

from cspace_jax.analysis.dataset import Measurements, build_dataset, measure
from cspace_jax.data import concepts
from cspace_jax.errors import UserError


def test_measure_against_loops():
    rng = np.random.default_rng(0)
    bits = concepts.classes(("color", "size")).bits
    probs = rng.random((2, 1, 4, 8, 2)).astype(np.float32)
    probs[0, 0, 3, 0] = 0.5  # a tie goes to bit 0, as argmax does
    measured = measure(probs, bits)
    for r, k in np.ndindex(2, 4):
        right = [
            [int(np.argmax([1 - p, p])) == bit for p, bit in zip(one, bits[k], strict=True)] for one in probs[r, 0, k]
        ]
        correct = [
            np.prod([p if bit else 1 - p for p, bit in zip(one, bits[k], strict=True)]) for one in probs[r, 0, k]
        ]
        np.testing.assert_allclose(measured["accuracy"][r, 0, k], np.mean(right, axis=0), atol=1e-6)
        np.testing.assert_allclose(measured["joint_accuracy"][r, 0, k], np.mean(np.all(right, axis=1)), atol=1e-6)
        np.testing.assert_allclose(measured["joint_prob"][r, 0, k], np.mean(correct), atol=1e-6)
        np.testing.assert_allclose(measured["prob"][r, 0, k], probs[r, 0, k].mean(axis=0), atol=1e-6)


def test_nan_is_never_counted_as_wrong_or_right():
    probs = np.full((1, 1, 4, 3, 2), np.nan)
    measured = measure(probs, concepts.classes(("color", "size")).bits)
    assert all(np.isnan(value).all() for value in measured.values())


def test_dataset_follows_the_schema_and_marks_diverged_runs():
    ds = synthetic.dataset(levels=(0.2, 0.8), seeds=(0, 100), diverged=(1,))
    assert ds["prob"].dims == ("run", "step", "protocol", "klass", "concept")
    assert ds["loss"].dims == ("run", "step", "split", "term")
    assert ds["status"].values.tolist() == ["ok", "diverged", "ok", "ok"]
    assert ds["klass"].values.tolist() == ["00", "01", "10", "11"]
    assert ds["trained"].values.tolist() == [True, True, True, False]
    assert ds["bit"].values[2].tolist() == [1, 0]
    assert ds["seed"].values.tolist() == [0, 100, 0, 100]
    assert np.isfinite(ds["prob"].values[[0, 2, 3]]).all()


def test_evaluation_of_another_grid_is_refused():
    evaluation, classes = {"prob_samples": np.zeros((3, 1, 4, 2, 2))}, concepts.classes(("color", "size"))
    with pytest.raises(UserError, match=r"step 500 .*\(3, 1, 4, 2\)"):
        build_dataset(
            Measurements({500: evaluation}, synthetic.grid((0.2,), (0,)), concepts.classes(("color", "size")))
        )
    with pytest.raises(UserError, match="no evaluation"):
        build_dataset(Measurements({}, synthetic.grid((0.2,), (0,)), classes))

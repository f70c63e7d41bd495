"""The block of the summary that studies of pictures have: what the probe reads, and stand-ins for the signal."""

import numpy as np
import pytest

from cspace_jax.analysis import pictures


@pytest.fixture
def seen(ds):
    reading = np.arange(8).reshape(4, 2) / 10
    return ds.assign(reading=(("klass", "concept"), reading), mean_distance=("concept", [0.25, 0.5]))


def test_rendered_studies_have_no_such_block(ds, seen):
    assert not pictures.has_reading(ds) and pictures.has_reading(seen)
    assert not pictures.has_reading(seen.drop_vars("mean_distance"))


def test_numbers_stand_under_their_class_and_concept(seen):
    found = pictures.pictures(seen)
    assert found["reading"]["10"] == {"color": 0.4, "size": 0.5}
    assert found["mean_distance"] == {"color": 0.25, "size": 0.5} and "exchange" not in found


def test_rises_of_the_loss_are_means_over_live_runs_at_the_last_save(seen):
    rises = np.random.default_rng(0).random((12, seen.sizes["step"], 2))
    found = pictures.pictures(seen.assign(exchange=(("run", "step", "concept"), rises)))["exchange"]
    assert list(found) == ["sep_col=0.1", "sep_col=0.2", "sep_col=0.4", "sep_col=0.8"]
    np.testing.assert_allclose(list(found["sep_col=0.1"].values()), rises[:3, -1].mean(axis=0))
    np.testing.assert_allclose(list(found["sep_col=0.2"].values()), rises[[3, 5], -1].mean(axis=0))  # 4 diverged

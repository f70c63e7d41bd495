"""The table of concepts: the largest separations still fit."""

import pytest

from cspace_jax.config import Config
from cspace_jax.config.concepts import SEPARATIONS, TABLE
from cspace_jax.config.fields import declared
from cspace_jax.data import concepts


def test_class_ranges_of_the_largest_separations_stay_in_range():
    largest = {path: what.interval.high for path, _, what in declared(Config) if what.interval}
    ranges = concepts.class_ranges(*(largest[f"grid.{name}"] for name in SEPARATIONS))
    for name in ("color", "bg_color"):
        mean, half_width = ranges.mean[name], ranges.spread[name]
        assert float(mean.min() - half_width) == pytest.approx(0, abs=1e-6)
        assert float(mean.max() + half_width) == pytest.approx(1, abs=1e-6)
    assert float(ranges.mean["size"].min()) == pytest.approx(TABLE["size"].least)

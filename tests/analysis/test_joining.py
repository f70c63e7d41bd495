"""Datasets of several studies as one: every number is found again, and what a study does not have is NaN."""

import json

import numpy as np
import pytest
import synthetic
import xarray as xr

from cspace_jax.analysis import joining
from cspace_jax.errors import UserError

CONFIG = {"study": "signal", "scale": "quick", "optim": {"steps": 9, "clip": 1.0}, "learned": "stays_80"}


@pytest.fixture(scope="module")
def weak():
    return synthetic.dataset(levels=(0.1, 0.2), seeds=(0, 100), config=CONFIG)


@pytest.fixture(scope="module")
def strong():
    other = CONFIG | {"optim": {"steps": 7, "clip": 1.0}}
    return synthetic.dataset(levels=(0.8,), seeds=(0,), steps=(500, 700, 20000), config=other)


def test_every_number_of_a_study_is_found_by_its_name(weak, strong):
    one = joining.join({"weak": weak, "strong": strong})
    assert one["run"].values.tolist() == [0, 1, 2, 3, 4]
    assert one["study"].values.tolist() == ["weak"] * 4 + ["strong"]
    assert one["run_of_study"].values.tolist() == [0, 1, 2, 3, 0]
    assert one["step"].values.tolist() == sorted({*synthetic.STEPS, 700})
    for name, ds in (("weak", weak), ("strong", strong)):
        mine = one.isel(run=one["study"].values == name)
        for variable in ds.data_vars:
            found = mine[variable].sel(step=ds["step"]) if "step" in ds[variable].dims else mine[variable]
            np.testing.assert_array_equal(found.values, ds[variable].values)
            assert found.dtype == ds[variable].dtype
        assert mine["prob"].sel(step=[s for s in one["step"].values if s not in ds["step"].values]).isnull().all()
    assert json.loads(one.attrs["config"]) == {
        "study": "signal", "scale": "quick", "optim": {"clip": 1.0}, "learned": "stays_80"
    }  # fmt: skip


def test_protocols_and_queries_are_those_of_all_with_naive_first(weak, strong):
    def asked(ds, *names):
        more = ds.reindex(protocol=["naive", *names])
        queries = ["naive", *(name for name in names for _ in range(2))]
        prob = np.arange(ds.sizes["run"] * len(queries), dtype=float).reshape(-1, len(queries))
        more["query_prob"] = (("run", "query"), prob)
        values = ["", *("same" for _ in queries[1:])]  # two queries of one name and value stay two
        return more.assign_coords(query_protocol=("query", queries), query_value=("query", values))

    one = joining.join({"weak": asked(weak, "patch", "latent"), "strong": asked(strong, "guidance", "latent")})
    assert one["protocol"].values.tolist() == ["naive", "patch", "latent", "guidance"]
    assert one["query_protocol"].values.tolist() == ["naive", *["patch"] * 2, *["latent"] * 2, *["guidance"] * 2]
    np.testing.assert_array_equal(one["query_prob"].values[4], [0, np.nan, np.nan, 3, 4, 1, 2])
    np.testing.assert_array_equal(one["query_prob"].values[1], [5, 6, 7, 8, 9, np.nan, np.nan])
    without = joining.join({"strong": strong, "weak": asked(weak, "patch")})
    assert without["query_prob"].isel(run=0).isnull().all() and without["prob"].sel(protocol="naive").notnull().any()


def test_what_a_study_holds_once_is_told_apart(weak, strong):
    pair = (
        ds.assign(reading=(("klass", "concept"), np.full((4, 2), i))) for i, ds in enumerate((weak, strong), start=1)
    )
    one = joining.join(dict(zip(("weak", "strong"), pair, strict=True)))
    assert one["reading"].isel(klass=0, concept=0).values.tolist() == [1, 1, 1, 1, 2]


def test_parts_of_one_study_are_the_study(weak):
    parts = [weak.isel(run=[0]), weak.isel(run=[1, 2]), weak.isel(run=[3])]
    xr.testing.assert_identical(joining.stack(parts), weak)


def test_other_concepts_or_classes_are_one_line(weak):
    shapes = synthetic.dataset(levels=(0.2,), active=("shape", "color"))
    with pytest.raises(UserError, match="studies: b has the concepts shape, color, a has color, size; only") as caught:
        joining.join({"a": weak, "b": shapes})
    assert "\n" not in str(caught.value)
    seen = weak.assign_coords(trained=("klass", [True, True, False, False]))
    with pytest.raises(UserError, match="b has the classes trained on 00, 01, a has 00, 01, 10"):
        joining.join({"a": weak, "b": seen})

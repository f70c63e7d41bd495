"""Results in NetCDF and CSV: what was written comes back, and what is damaged is one line."""

import json

import h5netcdf
import numpy as np
import pandas as pd
import pytest
import synthetic
import xarray as xr
from etils import epath

from cspace_jax.errors import UserError
from cspace_jax.storage import results
from cspace_jax.storage.workdir import Workdir
from experiments import load


def written(ds, folder):
    """Write a dataset into a folder and return it as a workdir."""
    workdir = Workdir(epath.Path(folder))
    results.write_results(ds, workdir)
    return workdir


def test_netcdf_round_trip_keeps_values_types_and_attributes(tmp_path):
    ds = synthetic.dataset(levels=(0.2,), seeds=(0, 2**32 - 1), probe_accuracy={"color": 1.0})
    results.write_results(ds, Workdir(epath.Path(tmp_path)))
    back = results.open_results(tmp_path)
    assert back.identical(ds)
    assert back["trained"].dtype == bool and back["seed"].values[1] == 2**32 - 1
    assert results.config_of(back)["study"] == "signal"
    assert json.loads(back.attrs["probe_accuracy"]) == {"color": 1.0}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["concept_space.csv", "concept_space.nc"]


def test_csv_is_equal_for_equal_runs_and_reads_back_exactly(tmp_path):
    first, second = (synthetic.dataset(levels=(0.1 + 0.7 / 19, 0.2), seeds=(0,), diverged=(1,)) for _ in range(2))
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    one = written(first, tmp_path / "a").table
    two = written(second, tmp_path / "b").table
    assert one.read_bytes() == two.read_bytes()
    table = pd.read_csv(one, dtype={"klass": str})
    assert len(table) == first["prob"].size
    expected = first["prob"].values.reshape(-1)
    np.testing.assert_array_equal(table["prob"].to_numpy(np.float32), expected.astype(np.float32))
    row = table[(table.run == 0) & (table.step == 20000) & (table.klass == "11") & (table.concept == "size")]
    assert row.bit.item() == 1 and row.trained.item() == 0
    joint = first["joint_accuracy"].sel(run=0, step=20000, klass="11").item()
    assert row.joint_accuracy.item() == pytest.approx(joint, abs=1e-7)
    assert table.sep_col.iloc[0] == pytest.approx(0.1 + 0.7 / 19, abs=1e-10)


def test_the_table_in_parts_is_the_table_in_one(monkeypatch):
    ds = synthetic.dataset(levels=(0.2, 0.4), seeds=(0, 100, 200))
    whole = results.to_table(ds)
    assert whole["run"].unique().tolist() == list(range(6))
    monkeypatch.setattr(results, "PART_ROWS", ds["prob"].size // 3)
    assert len(list(results._table_parts(ds))) == 3
    pd.testing.assert_frame_equal(results.to_table(ds), whole)


def test_a_repeated_study_has_the_size_that_was_asked_for():
    ds = synthetic.dataset(levels=(0.2,), seeds=(0, 100))
    many = load.repeated(ds, runs=10, saves=30)
    assert (many.sizes["run"], many.sizes["step"]) == (10, 30)
    pairs = set(zip(many["seed"].values.tolist(), many["sep_col"].values.tolist(), strict=True))
    assert len(pairs) == 10, "no run stands twice"


def test_missing_and_damaged_results_are_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        results.open_results(tmp_path)
    path = written(synthetic.dataset(levels=(0.2,), seeds=(0,)), tmp_path).dataset
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="cannot be read"):
        results.open_results(tmp_path)


def test_any_changed_value_of_a_stored_dataset_is_damage(tmp_path):
    """A flipped bit of what is not compressed would pass: HDF5 keeps no checksum of it."""
    written(synthetic.dataset(levels=(0.2,), seeds=(0,), diverged=(0,)), tmp_path)
    path = tmp_path / "concept_space.nc"
    with xr.open_dataset(path, engine="h5netcdf") as opened:
        stored = opened.load()
    status = stored["status"].values.copy()
    status[0] = "oj"
    for changed in (
        stored.assign_coords(step=stored["step"] + 1),
        stored.assign_coords(status=("run", status)),
        stored.assign(bit=1 - stored["bit"]),
        stored.assign_attrs(study="another"),
    ):
        changed.to_netcdf(path, engine="h5netcdf")
        with pytest.raises(UserError, match="is damaged, its checksum differs; delete it and run --mode=eval again"):
            results.open_results(tmp_path)
    mine = stored.drop_attrs(deep=False).assign_attrs(config="[1]")
    mine.to_netcdf(path, engine="h5netcdf")
    with pytest.raises(UserError, match="the configuration in .* is damaged"):
        results.open_results(tmp_path)
    mine.isel(run=0).assign_attrs(config="{}").to_netcdf(path, engine="h5netcdf")
    with pytest.raises(UserError, match="holds no run; it was not written by this tool"):
        results.open_results(tmp_path)


def test_the_users_own_settings_change_no_table(tmp_path):
    ds = synthetic.dataset(levels=(0.2,), seeds=(0, 100))
    expected = written(ds, tmp_path / "usual").table.read_bytes()
    odd = ("display.precision", 2, "display.float_format", "{:.1f}".format, "mode.string_storage", "python")
    with pd.option_context(*odd), np.printoptions(precision=1, suppress=True), np.errstate(all="raise"):
        assert written(ds, tmp_path / "odd").table.read_bytes() == expected


@pytest.mark.parametrize("name", ['=HYPERLINK("http://x")', "@x", "a\x1b[31m", "x" * 81, "$x^2$"])
def test_a_dataset_with_names_that_would_be_taken_for_something_else_is_refused(name, tmp_path):
    ds = synthetic.dataset(levels=(0.2,), seeds=(0,))
    folder = written(ds.assign_coords(concept=[name, "size"]), tmp_path / "names")
    with pytest.raises(UserError, match="results: .*concept_space.nc: name "):
        results.open_results(folder.root)
    folder = written(ds.assign_attrs(words=json.dumps({"color": [name, "blue"]})), tmp_path / "words")
    with pytest.raises(UserError, match="results: .*concept_space.nc: name "):
        results.open_results(folder.root)


def test_results_that_announce_more_than_the_memory_are_not_read(tmp_path):
    path = tmp_path / "concept_space.nc"
    with h5netcdf.File(path, "w") as file:
        file.dimensions = {"a": 10**8, "b": 10**6}
        file.create_variable("prob", ("a", "b"), np.float32, chunks=(1, 1000))
    assert path.stat().st_size < 1e5
    with pytest.raises(UserError, match="announces 400,?000 GB, more than the memory"):
        results.open_results(path)


def test_results_older_than_a_setting_are_read_at_its_default(tmp_path):
    old = synthetic.dataset(levels=(0.2,), seeds=(0,)).drop_vars("mask")
    results.write_results(old.assign_coords(mask=("run", [0.0])), Workdir(epath.Path(tmp_path)))
    assert results.open_results(tmp_path)["mask"].values.tolist() == [0.0]
    old.to_netcdf(tmp_path / "concept_space.nc", engine="h5netcdf")
    assert results.open_results(tmp_path)["mask"].values.tolist() == [0.0]

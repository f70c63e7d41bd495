"""The labelled dataset lies on disk twice.

`concept_space.nc` is for programs, `concept_space.csv` for eyes and spreadsheets. NetCDF is written with h5netcdf:
unlike SciPy's NetCDF 3 writer it keeps booleans, text and 64-bit seeds as they are, it compresses, and it needs no C
library beyond the h5py wheel.
"""

import dataclasses
import io
import json
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from etils import epath

from cspace_jax import machine
from cspace_jax.config.protocol_names import REPEATED
from cspace_jax.config.setting import SWEPT, Setting
from cspace_jax.errors import UserError
from cspace_jax.storage.files import not_its_fault, write_atomic
from cspace_jax.storage.workdir import Workdir
from cspace_jax.text import in_words, unpresentable

PART_ROWS = 200_000  # of the table, made at once
_CHECKSUM = "crc32"  # attribute of a stored dataset: of all its coordinates, variables and other attributes


def to_table(ds: xr.Dataset) -> pd.DataFrame:
    """Return the tidy table: one row per run, step, protocol, class and concept.

    Measurements and settings are text, which is equal for equal runs: the shortest that reads back as the same float32
    for measurements, ten digits for settings, and "" for an unknown value. Protocols after the first are asked for
    held-out classes only.
    """
    return pd.concat(list(_table_parts(ds)), ignore_index=True)


def _table_parts(ds: xr.Dataset) -> Iterator[pd.DataFrame]:
    """Yield the table in parts of so many runs that no part takes much memory."""
    size = max(1, PART_ROWS * ds.sizes["run"] // max(1, ds["prob"].size))
    for first in range(0, max(1, ds.sizes["run"]), size):
        yield _table_part(ds.isel(run=slice(first, first + size)))


def _table_part(ds: xr.Dataset) -> pd.DataFrame:
    """Return the table of some runs, under their numbers in the study."""
    names = ("run", "step", "protocol", "klass", "concept")
    shape = tuple(ds.sizes[name] for name in names)
    asked = np.arange(ds.sizes["protocol"])[:, None] == 0
    asked = np.broadcast_to((asked | ~ds["trained"].values)[None, None, :, :, None], shape)
    rows = np.flatnonzero(asked)
    index = dict(zip(names, np.unravel_index(rows, shape), strict=True))
    columns: dict[str, Any] = {"run": ds["run"].values[index["run"]], "seed": ds["seed"].values[index["run"]]}
    for name in SWEPT:
        columns[name] = np.array([f"{value:.10g}" for value in ds[name].values])[index["run"]]
    columns["status"] = ds["status"].values[index["run"]]
    for name in ("step", "protocol", "klass"):
        columns[name] = ds[name].values[index[name]]
    columns["trained"] = ds["trained"].values[index["klass"]].astype(int)
    columns["concept"] = ds["concept"].values[index["concept"]]
    columns["bit"] = ds["bit"].values[index["klass"], index["concept"]]
    for name in ("prob", "accuracy", "joint_accuracy", "joint_prob"):
        values = ds[name].transpose("run", "step", "protocol", "klass", ...).values
        values = values if values.ndim == 5 else values[..., None]
        columns[name] = shortest(np.broadcast_to(values, shape).reshape(-1)[rows])
    repeated = ("naive_split",) if REPEATED in ds["protocol"].values else ()
    for name in ("capability", "capability_split", *repeated):  # where further protocols were measured
        if name in ds:
            values = ds[name].transpose("run", "step", "protocol", "klass").values[..., None]
            columns[name] = shortest(np.broadcast_to(values, shape).reshape(-1)[rows])
    return pd.DataFrame(columns)


def shortest(values: np.ndarray) -> np.ndarray:
    """Return measurements as the shortest texts that read back as the same float32. NaN gives "".

    The result is an array of texts of the same shape.
    """
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)  # 0.0 and -0.0 are two texts
    different, places = np.unique(bits, return_inverse=True)
    numbers = different.view(np.float32)
    text = np.where(np.isnan(numbers), "", numbers.astype(str)).astype(object)
    return text[places].reshape(np.shape(values))  # equal numbers share one text in memory


def write_results(ds: xr.Dataset, workdir: Workdir) -> None:
    """Write the labelled dataset and its table into a workdir, each atomically.

    Raises:
      UserError: a file cannot be written.
    """
    _write(ds, _table_parts(ds), workdir.dataset, workdir.table)


def write_added(ds: xr.Dataset, workdir: Workdir) -> None:
    """Write the dataset of added steps and its table, each atomically.

    The table leaves out what was not measured.

    Raises:
      UserError: a file cannot be written.
    """
    table = to_table(ds)
    exact = ds["exact"].to_series().loc[list(zip(table["run"], table["step"], strict=True))].to_numpy()
    table["exact"] = np.where(exact == 1, 1, 0)
    _write(ds, [table.loc[table["prob"] != ""]], workdir.added_dataset, workdir.added_table)


def _write(ds: xr.Dataset, table: Iterable[pd.DataFrame], dataset: epath.Path, csv: epath.Path) -> None:
    """Write a dataset and the parts of its table to two files."""
    packed = {name: {"zlib": True, "complevel": 4} for name in ds.data_vars}
    content = io.BytesIO()  # of this process: HDF5 crashes where a disk, such as that of temporary files, is full
    ds = ds.assign_attrs({_CHECKSUM: _crc32(ds)})
    ds.to_netcdf(content, engine="h5netcdf", encoding=packed)
    write_atomic(dataset, content.getvalue())
    parts = [
        part.to_csv(index=False, header=number == 0, lineterminator="\n").encode() for number, part in enumerate(table)
    ]
    write_atomic(csv, b"".join(parts))


def open_results(path: epath.PathLike) -> xr.Dataset:
    """Read the dataset, wholly into memory, from a concept_space.nc or from its workdir.

    Its main axes are run, step, protocol, klass and concept.

    Raises:
      UserError: there is none, it is damaged, was not written by this tool, or is larger than memory.
    """
    path = epath.Path(path)
    path = Workdir(path).dataset if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"results: {path} does not exist; run --mode=eval first")
    try:
        with xr.open_dataset(io.BytesIO(path.read_bytes()), engine="h5netcdf") as stored:
            size = stored.nbytes
            ds = stored.load() if size <= machine.memory() else None
    except (OSError, ValueError, KeyError, RuntimeError, MemoryError) as error:
        why = not_its_fault(error)
        hint = "" if why else "; delete it and run --mode=eval again"
        raise UserError(f"results: {path} cannot be read ({why or error}){hint}") from error
    if ds is None:
        raise UserError(f"results: {path} announces {in_words(size)}, more than the memory there is")
    if (kept := ds.attrs.pop(_CHECKSUM, None)) is not None and kept != _crc32(ds):  # older versions wrote none
        raise UserError(f"results: {path} is damaged, its checksum differs; delete it and run --mode=eval again")
    _require_ours(path, ds)
    names = [str(name) for axis in ("concept", "klass") if axis in ds.coords for name in ds[axis].values]
    if why := next(filter(None, map(unpresentable, [*names, *_words(ds)])), ""):
        raise UserError(f"results: {path}: {why}")
    absent = [field for field in dataclasses.fields(Setting) if field.name in SWEPT and field.name not in ds.coords]
    # results older than a setting were measured at its default
    return ds.assign_coords({field.name: ("run", np.full(ds.sizes["run"], field.default)) for field in absent})


def _require_ours(path: epath.Path, ds: xr.Dataset) -> None:
    """Raise UserError if a dataset lacks what all datasets of this tool have."""
    missing = {"prob", "accuracy", "joint_accuracy", "bit", "trained", "step", "run"} - set(ds.variables)
    missing |= {"run", "step", "protocol", "klass", "concept"} - set(ds.sizes)
    if missing:
        raise UserError(f"results: {path} holds no {', '.join(sorted(missing))}; it was not written by this tool")
    try:
        described = isinstance(config_of(ds), dict)
    except (ValueError, TypeError):
        described = False
    if not described:
        raise UserError(f"results: the configuration in {path} is damaged; delete it and run --mode=eval again")


def _crc32(ds: xr.Dataset) -> str:
    """Return a checksum of all that a dataset holds.

    The order, and the way in which text is stored, do not matter.
    """
    found = 0
    for name in sorted(map(str, ds.variables)):
        values = ds[name].values
        if values.dtype.kind in "OUS":
            content = json.dumps(values.astype(str).tolist()).encode()
        else:
            content = np.ascontiguousarray(values).data.cast("B") if values.size else b""
        found = zlib.crc32(content, zlib.crc32(f"{name} {ds[name].dims} {values.dtype.kind}".encode(), found))
    attributes = json.dumps({name: str(value) for name, value in ds.attrs.items()}, sort_keys=True)
    return f"{zlib.crc32(attributes.encode(), found):08x}"


def _words(ds: xr.Dataset) -> list[str]:
    """Return the words of the values of the concepts, which tables and figures show."""
    try:
        return [str(word) for pair in json.loads(ds.attrs.get("words", "{}")).values() for word in pair]
    except (ValueError, AttributeError, TypeError):
        return []


def config_of(ds: xr.Dataset) -> dict[str, Any]:
    """Return the configuration that a dataset was made with, a plain dict.

    Raises:
      ValueError: it is damaged.
    """
    return json.loads(ds.attrs.get("config", "{}"))

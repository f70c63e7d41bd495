"""The one labelled dataset of a study: concept-space coordinates of every run, checkpoint, protocol and class.

Raw evaluations (one .npz a checkpoint) become one xarray dataset, stored twice: `concept_space.nc` for programs and
`concept_space.csv` for eyes and spreadsheets. NetCDF is written with h5netcdf: unlike SciPy's NetCDF 3 writer it keeps
booleans, text and 64-bit seeds as they are, it compresses, and it needs no C library beyond the h5py wheel.
"""

import dataclasses
import io
import json
import pathlib
import re
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from etils import epath

from cspace_jax.concepts import Classes
from cspace_jax.errors import UserError
from cspace_jax.setting import Setting
from cspace_jax.workdir import write_atomic

NETCDF_NAME = "concept_space.nc"
CSV_NAME = "concept_space.csv"
SETTINGS = ("sep_col", "sep_size", "sep_bg", "learning_rate", "weight_decay", "init_scale", "data_noise", "mask")
SPLITS = ("validation", "test")
TERMS = ("total", "diffusion", "latent", "reconstruction")
CHANNELS = ("r", "g", "b")
MEASURED = ("prob_samples", "mean_rgb", "loss", "schedule_b", "schedule_w")
_STEP_FILE = re.compile(r"step_(\d+)\.npz")


def evaluation_files(folder: epath.PathLike) -> dict[int, epath.Path]:
    """Return the raw evaluation files of a folder by step, in order; other files are ignored."""
    paths = epath.Path(folder).glob("*.npz")
    found = {int(match[1]): path for path in paths if (match := _STEP_FILE.fullmatch(path.name))}
    return dict(sorted(found.items()))


def read_evaluation(path: epath.PathLike, keys: Sequence[str] = MEASURED) -> dict[str, np.ndarray]:
    """Read the named arrays of one raw evaluation; UserError if the file is damaged or an array is missing."""
    try:
        with np.load(io.BytesIO(epath.Path(path).read_bytes()), allow_pickle=False) as stored:
            return {key: stored[key] for key in keys}
    except KeyError as error:
        missing = next((key for key in keys if key in str(error)), "named as asked")
        raise UserError(f"evaluation {path} holds no array {missing!r}; delete the file to measure it again") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"evaluation {path} cannot be read ({error}); delete the file to measure it again") from error


def holds(path: epath.PathLike, keys: Sequence[str]) -> bool:
    """Return whether a raw evaluation, which can be read, holds all the named arrays."""
    with np.load(io.BytesIO(epath.Path(path).read_bytes()), allow_pickle=False) as stored:
        return set(keys) <= set(stored.files)


def read_samples(folder: epath.PathLike) -> dict[int, np.ndarray]:
    """Return the kept sample images by step: uint8 [r, k, n, h, w, 3]; axis h is the x coordinate."""
    return {step: read_evaluation(path, ("samples",))["samples"] for step, path in evaluation_files(folder).items()}


def measure(prob_samples: np.ndarray, bits: np.ndarray) -> dict[str, np.ndarray]:
    """Turn P(bit = 1) of single samples [r, p, k, sample, c] into coordinates and accuracies; a NaN stays a NaN.

    Returns prob (concept-space coordinate) and accuracy [r, p, k, c], joint_accuracy and joint_prob [r, p, k]. A sample
    counts as bit 1 when its probability is above one half; a tie goes to bit 0, as argmax does. The joint values
    average the product over the concepts of a sample (reference implementation, linear-intervention script).
    """
    probs = np.asarray(prob_samples, dtype=np.float32)
    truth = np.asarray(bits, dtype=bool)[None, None, :, None, :]
    correct = np.where(truth, probs, 1 - probs)
    right = np.where(np.isnan(probs), np.nan, (probs > 0.5) == truth).astype(np.float32)
    return {
        "prob": probs.mean(axis=3),
        "accuracy": right.mean(axis=3),
        "joint_accuracy": right.prod(axis=-1).mean(axis=-1),
        "joint_prob": correct.prod(axis=-1).mean(axis=-1),
    }


def build_dataset(
    evaluations: Mapping[int, Mapping[str, np.ndarray]],
    settings: Sequence[Mapping[str, float]],
    classes: Classes,
    *,
    protocols: Sequence[str] = ("naive",),
    signal: np.ndarray | None = None,
    signal_range: np.ndarray | None = None,
    diverged: np.ndarray | None = None,
    config: Mapping[str, Any] | None = None,
    probe_accuracy: Mapping[str, float] | None = None,
) -> xr.Dataset:
    """Merge raw evaluations {step: arrays} of all runs into the labelled dataset.

    settings holds one mapping a run (seed and the fields of SETTINGS), classes is a `concepts.Classes`. signal and
    signal_range are [r, c] (NaN where not given). diverged marks runs [r] known to have failed; a run with a NaN
    coordinate is marked as well. config is the JSON-able config, kept as an attribute. Raises UserError if there is
    nothing to merge or if an evaluation was made for another grid.
    """
    if not evaluations:
        raise UserError("results: no evaluation found; run --mode=eval first")
    steps = sorted(evaluations)
    bits = np.asarray(classes.bits)
    expected = (len(settings), len(protocols), *bits.shape)
    for step in steps:
        shape = np.shape(evaluations[step]["prob_samples"])
        if (*shape[:3], *shape[4:]) != expected:
            raise UserError(
                f"results: the evaluation of step {step} has runs, protocols, classes, concepts = "
                f"{(*shape[:3], *shape[4:])}, the config asks for {expected}"
            )
    measured = [measure(evaluations[step]["prob_samples"], bits) for step in steps]
    stacked = {name: np.stack([one[name] for one in measured], axis=1) for name in measured[0]}
    raw = {name: np.stack([evaluations[step][name] for step in steps], axis=1) for name in MEASURED[1:]}
    unknown = np.full((len(settings), bits.shape[1]), np.nan)
    variables = {
        "prob": (("run", "step", "protocol", "klass", "concept"), stacked["prob"]),
        "accuracy": (("run", "step", "protocol", "klass", "concept"), stacked["accuracy"]),
        "joint_accuracy": (("run", "step", "protocol", "klass"), stacked["joint_accuracy"]),
        "joint_prob": (("run", "step", "protocol", "klass"), stacked["joint_prob"]),
        "mean_rgb": (("run", "step", "protocol", "klass", "channel"), raw["mean_rgb"]),
        "loss": (("run", "step", "split", "term"), raw["loss"]),
        "schedule_b": (("run", "step"), raw["schedule_b"]),
        "schedule_w": (("run", "step"), raw["schedule_w"]),
        "signal": (("run", "concept"), unknown if signal is None else np.asarray(signal)),
        "signal_range": (("run", "concept"), unknown if signal_range is None else np.asarray(signal_range)),
    }
    failed = np.isnan(stacked["prob"][:, :, 0]).any(axis=(1, 2, 3))
    failed = np.asarray(failed if diverged is None else failed | np.asarray(diverged, dtype=bool))
    coords = _coordinates(settings, steps, classes, protocols, failed)
    config = dict(config or {})
    attributes = {
        "study": str(config.get("study", "")),
        "scale": str(config.get("scale", "")),
        "config": json.dumps(config, sort_keys=True),
        "probe_accuracy": json.dumps(dict(probe_accuracy or {}), sort_keys=True),
    }
    return xr.Dataset(variables, coords, attributes)


def _coordinates(
    settings: Sequence[Mapping[str, float]],
    steps: Sequence[int],
    classes: Classes,
    protocols: Sequence[str],
    failed: np.ndarray,
) -> dict[str, Any]:
    coords = {name: ("run", np.array([float(one[name]) for one in settings])) for name in SETTINGS}
    return coords | {
        "run": np.arange(len(settings)),
        "seed": ("run", np.array([int(one["seed"]) for one in settings])),
        "status": ("run", np.where(failed, "diverged", "ok")),
        "step": np.asarray(steps),
        "protocol": list(protocols),
        "klass": list(classes.names),
        "concept": list(classes.active),
        "trained": ("klass", np.asarray(classes.trained, dtype=bool)),
        "bit": (("klass", "concept"), np.asarray(classes.bits, dtype=np.int64)),
        "channel": list(CHANNELS),
        "split": list(SPLITS),
        "term": list(TERMS),
    }


def to_table(ds: xr.Dataset) -> pd.DataFrame:
    """Return the tidy table: one row per run, step, protocol, class and concept, as text that is equal for equal runs.

    Protocols after the first are asked for held-out classes only. Numbers take the shortest text that reads back as the
    same float32 (measurements) or to ten digits (settings); an unknown value is empty.
    """
    shape = tuple(ds.sizes[name] for name in ("run", "step", "protocol", "klass", "concept"))
    index = dict(zip(("run", "step", "protocol", "klass", "concept"), np.indices(shape).reshape(5, -1), strict=True))
    columns: dict[str, Any] = {"run": index["run"], "seed": ds["seed"].values[index["run"]]}
    for name in SETTINGS:
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
        columns[name] = np.broadcast_to(_shortest(values), shape).reshape(-1)
    for name in ("capability", "capability_split"):  # where further protocols were measured
        if name in ds:
            values = ds[name].transpose("run", "step", "protocol", "klass").values[..., None]
            columns[name] = np.broadcast_to(_shortest(values), shape).reshape(-1)
    asked = (index["protocol"] == 0) | ~ds["trained"].values[index["klass"]]
    return pd.DataFrame({name: values[asked] for name, values in columns.items()})


def _shortest(values: np.ndarray) -> np.ndarray:
    text = np.asarray(values, dtype=np.float32).astype(str)
    return np.where(np.isnan(values), "", text)


def write_results(ds: xr.Dataset, folder: epath.PathLike) -> tuple[epath.Path, epath.Path]:
    """Write concept_space.nc and concept_space.csv into a folder, each atomically; return both paths."""
    folder = epath.Path(folder)
    packed = {name: {"zlib": True, "complevel": 4} for name in ds.data_vars}
    with tempfile.TemporaryDirectory() as scratch:  # HDF5 wants a real, seekable file; the workdir may be elsewhere
        local = pathlib.Path(scratch) / NETCDF_NAME
        ds.to_netcdf(local, engine="h5netcdf", encoding=packed)
        write_atomic(folder / NETCDF_NAME, local.read_bytes())
    table = to_table(ds).to_csv(index=False, lineterminator="\n")
    write_atomic(folder / CSV_NAME, table.encode())
    return folder / NETCDF_NAME, folder / CSV_NAME


def open_results(path: epath.PathLike) -> xr.Dataset:
    """Read the dataset, wholly into memory, from a concept_space.nc or from the workdir that holds one.

    Raises UserError if there is none or if the file is damaged.
    """
    path = epath.Path(path)
    path = path / NETCDF_NAME if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"results: {path} does not exist; run --mode=eval first")
    try:
        with xr.open_dataset(io.BytesIO(path.read_bytes()), engine="h5netcdf") as stored:
            ds = stored.load()
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise UserError(f"results: {path} cannot be read ({error}); delete it and run --mode=eval again") from error
    missing = {"prob", "accuracy", "joint_accuracy", "bit", "trained"} - set(ds.variables)
    if missing:
        raise UserError(f"results: {path} holds no {', '.join(sorted(missing))}; it was not written by this tool")
    absent = [field for field in dataclasses.fields(Setting) if field.name in SETTINGS and field.name not in ds.coords]
    # results older than a setting were measured at its default
    return ds.assign_coords({field.name: ("run", np.full(ds.sizes["run"], field.default)) for field in absent})


def config_of(ds: xr.Dataset) -> dict[str, Any]:
    """Return the config (a plain dict) that a dataset was made with."""
    return json.loads(ds.attrs.get("config", "{}"))

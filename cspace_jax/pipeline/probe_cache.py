"""The cache of the trained probe, and what is done if a probe is gone."""

import io
import json
import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import traverse_util

from cspace_jax import processes
from cspace_jax.config import Config, ProbeConfig
from cspace_jax.config.reading import fail
from cspace_jax.data.opened import source_of
from cspace_jax.errors import UserError
from cspace_jax.evaluation.probe import ProbeSpec, check_fit
from cspace_jax.npz_archives import read_npz
from cspace_jax.pipeline import probe as training
from cspace_jax.pipeline.probe import Info, Probe, config_hash
from cspace_jax.pipeline.study import Study
from cspace_jax.storage import checked_json, results
from cspace_jax.storage.files import located, write_atomic, writing
from cspace_jax.storage.workdir import Workdir
from cspace_jax.text import one_line

_ARRAYS = "arrays_crc32"  # in a cached probe's info


def cache_path(config: Config, workdir: Workdir) -> epath.Path:
    """Return the file of the trained probe's arrays. Its info lies beside it with the suffix .json."""
    folder = located(config.probe.cache_dir) if config.probe.cache_dir else workdir.probe
    return folder / f"{config_hash(config)}.npz"


def load_or_train(
    study: Study, train: bool = True, again: bool = False, needed: bool = True, tell: bool = True
) -> Probe:
    """Return the probe from the cache, or train and cache it.

    Args:
      study: whose probe it is.
      train: whether it may be trained.
      again: whether it may be trained though a probe has read checkpoints of the workdir, which is gone or damaged.
      needed: whether something is left to read; if not, what the results keep of a probe that is gone will do.
      tell: whether the held-out accuracies are printed in one line.

    Raises:
      UserError: the cache cannot be read or written, a concept is read with less than `probe.min_accuracy`, or there is
        no usable probe in the cache and it may not be trained.
    """
    config = study.config
    file = cache_path(config, study.workdir)
    found = _load(ProbeSpec.from_config(config, study.plan), config, file)
    lost = found is None and any(study.workdir.eval.glob("*/*.npz"))
    state = "damaged" if file.exists() else "gone"
    gone = f"{str(file)!r}, which has read checkpoints of this workdir, is {state}"
    if lost and not needed and (kept := _of_results(study)):
        _say(f"{gone}: nothing is read again; further runs, steps and protocols would need it")
        return kept
    if lost and not again:
        raise UserError(
            f"probe: {gone}: --mode=train trains it again"
            + ", or set probe.cache_dir to where it is" * (state == "gone")
        )
    if found is None and not train:
        raise UserError(f"there is no usable trained probe at {str(file)!r}: train first, or set probe.cache_dir")
    if lost:
        _say(f"{gone}: it is trained again")
    probe = found or _train_and_save(study, file)
    if tell:
        origin = "cached" if found else "trained"
        _say(f"held-out accuracy {_accuracies(probe.info)} ({probe.info['steps']} steps, {origin})")
    _require_accuracy(config.probe, probe.info)
    return probe


def _of_results(study: Study) -> Probe | None:
    """Return the probe as far as the results keep it, without parameters. No results give None."""
    try:
        ds = results.open_results(study.workdir.root)
    except UserError:
        return None
    info: Info = {"accuracy": json.loads(ds.attrs.get("probe_accuracy", "{}"))}
    if "reading" in ds:
        info["reading"] = ds["reading"].values.tolist()
    return Probe(ProbeSpec.from_config(study.config, study.plan), {}, info)


def _train_and_save(study: Study, file: epath.Path) -> Probe:
    """Train the probe, and let the first process write it."""
    with writing(file.parent):  # before the training, so that a bad folder is reported at once
        file.parent.mkdir(parents=True, exist_ok=True)
    probe = training.train_probe(study.config, study.plan)
    if processes.is_first():
        buffer = io.BytesIO()
        arrays: dict[str, Any] = dict(traverse_util.flatten_dict(jax.device_get(probe.params), sep="/"))
        np.savez(buffer, **arrays)
        write_atomic(file, buffer.getvalue())
        info = {**probe.info, _ARRAYS: zlib.crc32(buffer.getvalue())}
        checked_json.write(file.with_suffix(".json"), info)  # last: it completes the pair
    return probe


def _load(spec: ProbeSpec, config: Config, file: epath.Path) -> Probe | None:
    """Return a cached probe, or None if there is none or it is damaged. A line tells of the damage.

    Raises:
      UserError: it cannot be read.
    """
    try:
        arrays, text = file.read_bytes(), file.with_suffix(".json").read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"cannot read the trained probe {str(file)!r}: {error.strerror or error}") from error
    try:
        return _decode(spec, config, arrays, text)
    except Exception as error:  # of bytes in memory: whatever is raised, they are damaged
        _say(f"{str(file)!r} is damaged and not used ({one_line(error, 100)})")
        return None


def _decode(spec: ProbeSpec, config: Config, arrays: bytes, text: bytes) -> Probe:
    """Return the probe of the bytes of its two files.

    Raises:
      Exception: they are damaged; it is of any kind.
    """
    info = json.loads(text)
    if not isinstance(arrays_crc32 := info.pop("crc32", None), int):  # only older versions meant the arrays
        info = checked_json.parse(text)
        arrays_crc32 = info.pop(_ARRAYS, None)
    read = {*source_of(config.data).classes.active, "joint"}
    if info["hash"] != config_hash(config) or set(info["accuracy"]) != read:
        raise ValueError("its .json belongs to another probe")
    if arrays_crc32 not in (None, zlib.crc32(arrays)):  # older versions did not write it
        raise ValueError("its arrays are not those that were trained")
    info["steps"] = int(info["steps"])
    params = traverse_util.unflatten_dict(read_npz(io.BytesIO(arrays)), sep="/")
    check_fit(spec, params)
    return Probe(spec, jax.tree.map(jnp.asarray, params), info)


def _accuracies(info: Info) -> str:
    """Return the held-out accuracies in words."""
    return ", ".join(f"{name} {value:.4f}" for name, value in info["accuracy"].items())


def _require_accuracy(probe: ProbeConfig, info: Info) -> None:
    """Raise UserError if a concept is read with less than `probe.min_accuracy`."""
    worst = min((name for name in info["accuracy"] if name != "joint"), key=lambda name: info["accuracy"][name])
    reached = info["accuracy"][worst]
    if not reached >= probe.min_accuracy:
        advice = f"raise probe.steps (now {probe.steps}) or probe.images_per_class (now {probe.images_per_class})"
        reads = f"the probe reads {worst} with an accuracy of {reached:.4f} only"
        fail("probe.min_accuracy", probe.min_accuracy, f"{reads}; {advice}, or lower probe.min_accuracy")


def _say(line: str) -> None:
    """Print a line, in the first process only."""
    if processes.is_first():
        print(f"probe: {line}")

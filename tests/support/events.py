"""What a log holds, read back by TensorBoard's own reader, and what it must hold, from the study's own files."""

import math

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import cspace_jax as cs
from cspace_jax.analysis.learning import definition_of, times_by
from cspace_jax.config.setting import SWEPT
from cspace_jax.storage.metrics import read_metrics


def events(folder):
    """Every event of a run, those of one name in the order in which they stand."""
    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0}).Reload()


def scalars(folder):
    """Every number of a run, {(name, step): value}: each is there once, and steps of a name increase."""
    found = events(folder)
    rows = {name: [(one.step, one.value) for one in found.Scalars(name)] for name in found.Tags()["scalars"]}
    for name, values in rows.items():
        steps = [step for step, _ in values]
        assert steps == sorted(set(steps)), (name, steps)
    return {(name, step): value for name, values in rows.items() for step, value in values}


def pictures(folder):
    """The steps of the pictures of a run."""
    found = events(folder)
    return [one.step for one in found.Images("samples")] if "samples" in found.Tags()["images"] else []


def trained(study):
    """What must be in the logs of all runs of training: {run: {(name, step): value}}."""
    found = {}
    for part, first in zip(study.parts, study.first_runs, strict=False):
        for row in read_metrics(part.workdir.metrics):
            values = {name: row[name] for name in row if name not in ("run", "step", "seed", *SWEPT)}
            of_run = found.setdefault(first + row["run"], {})
            of_run |= {(f"train/{n}", row["step"]): np.float32(v) for n, v in values.items() if v is not None}
    return found


def measured(ds, run, steps=None):
    """What must be in the log of a run of its evaluations at steps (None: all), of a labelled dataset.

    A learning time is what is known at its step: from a curve that ends there.
    """
    here = ds.sel(protocol="naive", run=run)
    found, all_steps, definition = {}, here["step"].values.tolist(), definition_of(ds)
    for step in all_steps if steps is None else steps:
        one, until = here.sel(step=step), here.sel(step=all_steps[: all_steps.index(step) + 1])
        for split in ds["split"].values:
            for term in ds["term"].values:
                found[f"loss/{split}_{term}", step] = one["loss"].sel(split=split, term=term).item()
        for k in ds["klass"].values:
            found[f"joint_accuracy/{k}", step] = one["joint_accuracy"].sel(klass=k).item()
            curves = {"joint": until["joint_accuracy"].sel(klass=k).values}
            for c in ds["concept"].values:
                found[f"concept_space/{k}_{c}", step] = one["prob"].sel(klass=k, concept=c).item()
                found[f"accuracy/{k}_{c}", step] = one["accuracy"].sel(klass=k, concept=c).item()
                curves[c] = until["accuracy"].sel(klass=k, concept=c).values
            for name, curve in curves.items():
                found[f"learning_time/{k}_{name}", step] = times_by(definition, until["step"].values, curve[None])[0]
    return {key: np.float32(value) for key, value in found.items() if math.isfinite(value)}


def assert_whole(root):
    """Fail unless the log of a finished study, of few runs, is all of its files and nothing twice."""
    study = cs.open_study(root)
    ds, rows = study.dataset, trained(study)
    folders = sorted(path for path in (study.workdir.root / "tensorboard").iterdir() if any(path.iterdir()))
    assert [path.name[:10] for path in folders] == [f"run_{run:05d} " for run in ds["run"].values]
    for run, folder in enumerate(folders):
        assert scalars(folder) == rows[run] | measured(ds, run)
        assert pictures(folder) == ds["step"].values.tolist()

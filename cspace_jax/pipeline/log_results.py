"""The evaluations that a log takes.

It takes those of each save as soon as they are there, while a study trains or afterwards.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Shaped

from cspace_jax.analysis import dataset, learning
from cspace_jax.data.classes import Classes
from cspace_jax.data.opened import source_of
from cspace_jax.errors import UserError
from cspace_jax.pipeline.logs import Curves
from cspace_jax.pipeline.progress import earlier_metrics
from cspace_jax.pipeline.study import Study
from cspace_jax.pipeline.waves import Wave
from cspace_jax.storage.evaluations import SPLITS, TERMS, holds, read_evaluation

Arrays = Mapping[str, Shaped[np.ndarray, "r ..."]]
READ = ("prob_samples", "loss")  # arrays of an evaluation file; "samples" too, where they were kept


def begin(study: Study, wave: Wave, done: int) -> None:
    """Start the logs of a wave's runs anew.

    They take the training up to step `done` and all evaluations on the disk.
    """
    if study.log.writer is None:
        return
    study.log.begin(wave.rows, earlier_metrics(study, wave, done))
    pictured = any(study.log.first + run in study.log.pictured for run in wave.rows)
    for step in study.steps:
        file = wave.eval_file(step)
        if file.exists():
            try:
                arrays = read_evaluation(file, (*READ, "samples") if pictured and holds(file, ("samples",)) else READ)
                _require_fit(study, wave, step, arrays)
            except UserError as error:  # who needs it says so; a log ends no study
                print(f"{error}; the log goes without it", flush=True)
            else:
                take(study, wave, step, arrays)


def _require_fit(study: Study, wave: Wave, step: int, arrays: Arrays) -> None:
    """Raise UserError if an evaluation was made for another grid or other classes."""
    bits, runs = source_of(study.config.data).classes.bits, len(wave.rows)
    dataset.require_fit(step, arrays, (runs, 1, *bits.shape), {"loss": (runs, len(SPLITS), len(TERMS))})


def take(study: Study, wave: Wave, step: int, arrays: Arrays) -> None:
    """Log the evaluation of a wave's runs at a step, and the learning times known with it.

    Args:
      study: whose runs they are.
      wave: of the runs; its log was begun.
      step: of the evaluation.
      arrays: as in an evaluation file.
    """
    log = study.log
    if log.writer is None:
        return
    classes, curves = source_of(study.config.data).classes, log.curves[log.first + wave.rows[0]]
    measured = dataset.measure(arrays["prob_samples"][:, :1], classes.bits)  # naive prompting
    measured = {name: values[:, 0] for name, values in measured.items()} | {"loss": arrays["loss"]}
    for i, run in enumerate(wave.rows):
        log.result(run, step, numbers({name: values[i] for name, values in measured.items()}, classes))
        if "samples" in arrays:
            log.samples(run, step, arrays["samples"][i])
    curves.in_order = curves.in_order and step > max(curves.scores, default=0)
    curves.scores[step] = np.concatenate([measured["accuracy"], measured["joint_accuracy"][..., None]], axis=-1)
    _take_times(study, wave, classes, curves)


def finish(study: Study, wave: Wave) -> None:
    """Write the logs of a trained wave anew if their steps are not in order.

    A viewer would draw several curves otherwise.
    """
    if study.log.writer is not None and not study.log.curves[study.log.first + wave.rows[0]].in_order:
        begin(study, wave, study.config.optim.steps)


def numbers(measured: Mapping[str, np.ndarray], classes: Classes) -> dict[str, Any]:
    """Return the numbers of a run at a step, name -> number.

    `measured` holds the arrays [k, ...] of `dataset.measure` for the run, and its "loss" [split, term].
    """
    codes, names = classes.names, classes.active
    return {
        **{f"concept_space/{k}_{c}": measured["prob"][i, j] for i, k in enumerate(codes) for j, c in enumerate(names)},
        **{f"accuracy/{k}_{c}": measured["accuracy"][i, j] for i, k in enumerate(codes) for j, c in enumerate(names)},
        **{f"joint_accuracy/{k}": measured["joint_accuracy"][i] for i, k in enumerate(codes)},
        **{
            f"loss/{split}_{term}": measured["loss"][i, j]
            for i, split in enumerate(SPLITS) for j, term in enumerate(TERMS)
        },
    }  # fmt: skip


def _take_times(study: Study, wave: Wave, classes: Classes, curves: Curves) -> None:
    """Log the learning times at every new save up to which all saves are evaluated."""
    names = [f"learning_time/{k}_{c}" for k in classes.names for c in (*classes.active, "joint")]
    while curves.timed < len(study.steps) and study.steps[curves.timed] in curves.scores:
        curves.timed += 1
        known = study.steps[: curves.timed]
        scores = np.stack([curves.scores[step] for step in known], axis=-1)
        for i, run in enumerate(wave.rows):
            found = learning.times_by(study.config.learned, np.array(known), scores[i].reshape(len(names), -1))
            study.log.result(run, known[-1], dict(zip(names, found, strict=True)))


def tell(parts: Sequence[Study]) -> None:
    """Say when the log gets the results of evaluations, if all of them come after the training."""
    if parts[0].log.writer is None:
        return
    trains = [part for part in parts if not all(wave.is_trained(part.config) for wave in part.waves)]
    if trains and all(part.kept.issuperset(part.steps) and len(part.steps) > 1 for part in trains):
        print(
            "log: concept space, learning times and samples come after the training, since the parameters of all saves "
            "are kept; they come while it trains with --config.save.keep=last, which keeps those of the last save only",
            flush=True,
        )

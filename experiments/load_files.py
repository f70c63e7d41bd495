"""The files of a large study that was never trained: readings of invented curves, in the real format."""

import pathlib
from typing import Any

import numpy as np
from scipy import special
from tqdm import tqdm

import cspace_jax as cs
from cspace_jax.config import Config
from cspace_jax.data.opened import source_of
from cspace_jax.errors import UserError
from cspace_jax.evaluation import embeddings
from cspace_jax.model import unet
from cspace_jax.pipeline import elicit, preparation, probe_cache
from cspace_jax.pipeline.study import Study
from cspace_jax.storage.evaluations import SPLITS, TERMS, write_npz
from cspace_jax.training.run import TrainSpec

LEVELS = (0.2, 0.3, 0.4, 0.8)
# Queries: one of naive prompting and 19 of overprompting.
_ELICIT: dict[str, Any] = {
    "elicit.protocols": ("overprompt",),
    "elicit.overprompt": tuple(round(0.1 * i, 1) for i in range(1, 20)),
}


def _config(runs: int, saves: int) -> Config:
    seeds = tuple(100 * i for i in range(-(-runs // len(LEVELS))))
    levels = LEVELS[: min(runs, len(LEVELS))]
    probe = {"probe.steps": 1, "probe.images_per_class": 8, "probe.min_accuracy": 0.0}  # none reads anything
    return cs.load_config("signal:quick", seeds=seeds, sep_col=levels, **{"save.count": saves}, **_ELICIT, **probe)


def write(folder: pathlib.Path, runs: int, saves: int) -> tuple[Study, int]:
    """Write evaluations, answers and a probe of a study into a new workdir; return the study and its queries.

    Raises:
      UserError: the folder exists.
    """
    if folder.exists():
        raise UserError(f"workdir = {str(folder)!r}: must be a new folder")
    study = preparation.prepare(_config(runs, saves), folder, "eval")
    probe_cache.load_or_train(study)
    (wave,), rng = study.waves, np.random.default_rng(0)
    root = elicit.folder(study)
    elicit.describe_battery(study, root)
    queries = len(elicit.names_and_values(study.config)[0])
    for step in tqdm(study.steps, "files"):
        write_npz(wave.eval_file(step), _evaluation(study, step, rng))
    for step in tqdm(elicit.steps(study), "answers"):
        write_npz(elicit.answer_file(root, wave, step), _answers(study, step, queries, rng))
    return study, queries


def _read(study: Study, step: int, bits: np.ndarray, queries: int, samples: int, rng: np.random.Generator) -> Any:
    """Return P(bit = 1) of samples [r, q, k, s, c] of classes with the given bits [k, c].

    They are right the more often the later the step is.
    """
    runs, last = study.config.grid.num_runs, study.config.optim.steps
    late = 6 * step / last - 2 + rng.normal(size=(runs, 1, 1, 1, 1))
    logits = np.where(bits[None, None, :, None, :], late, -late)
    noise = rng.standard_normal((runs, queries, len(bits), samples, bits.shape[1]), np.float32)
    return special.expit(2 * (logits + noise)).astype(np.float32)


def _evaluation(study: Study, step: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return the arrays of an `Evaluation` of a save.

    Its pictures are as hard to pack as those of a network.
    """
    config, classes, runs = study.config, source_of(study.config.data).classes, study.config.grid.num_runs
    bits, side = np.asarray(classes.bits, bool), config.data.image_size
    blocks = unet.block_features(TrainSpec.from_config(config).vdm.network)
    vectors = len(embeddings.vector_names(classes))
    kept = (runs, len(bits), config.evaluate.keep_samples, side, side, 3)
    return {
        "prob_samples": _read(study, step, bits, 1, config.evaluate.samples_per_class, rng),
        "mean_rgb": rng.random((runs, 1, len(bits), 3), np.float32),
        "samples": (128 + 4 * rng.standard_normal(kept, np.float32)).astype(np.uint8),
        "schedule_b": rng.random(runs, np.float32),
        "schedule_w": rng.random(runs, np.float32),
        "embedding_cosine": rng.random((runs, len(blocks), vectors, vectors), np.float32),
        "embedding_classes": rng.random((runs, len(classes.held_out_ids), sum(blocks.values())), np.float32),
        "loss": rng.random((runs, len(SPLITS), len(TERMS)), np.float32),
    }


def _answers(study: Study, step: int, queries: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    classes = source_of(study.config.data).classes
    bits = np.asarray(classes.bits, bool)[list(classes.held_out_ids)]
    read = _read(study, step, bits, queries, study.config.elicit.samples, rng)
    colors = rng.random((study.config.grid.num_runs, queries, len(bits), 3), np.float32)
    return {"prob_samples": read, "mean_rgb": colors}

"""The evaluation stage: naive prompting, embeddings and losses at every checkpoint that has none yet."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from cspace_jax.config import Config, save_steps
from cspace_jax.engine.engine import Engine, Parcels
from cspace_jax.errors import UserError
from cspace_jax.evaluation import embeddings, sampling
from cspace_jax.evaluation import probe as probe_network
from cspace_jax.evaluation.losses import LossData, loss_batch, loss_batches, loss_data
from cspace_jax.evaluation.prompts import naive_prompts
from cspace_jax.evaluation.reading import read
from cspace_jax.evaluation.spec import EvalSpec, make_eval_spec
from cspace_jax.pipeline.progress import progress
from cspace_jax.pipeline.waves import Wave, own_waves
from cspace_jax.storage import checkpoint
from cspace_jax.storage.evaluations import SPLITS, TERMS, write_npz
from cspace_jax.storage.workdir import Workdir


def unread_steps(config: Config, wave: Wave) -> list[int]:
    """Return the saved steps that have no evaluation yet."""
    return [s for s in save_steps(config.save, config.optim.steps) if not wave.eval_file(s).exists()]


def evaluate(workdir: Workdir, config: Config, probe_spec: probe_network.ProbeSpec, probe_params: dict) -> None:
    """Evaluate every saved step of this process's runs that has no evaluation yet.

    Raises:
      UserError: a checkpoint is missing or unfit.
    """
    todo = [(wave, unread_steps(config, wave)) for wave in own_waves(workdir, config)]
    for wave, steps in todo:
        require_checkpoints(wave, steps)
    if not any(steps for _, steps in todo):
        return
    with progress(sum(len(steps) for _, steps in todo), "evaluate", "checkpoint") as bar:
        for wave, steps in todo:
            for step, arrays in _evaluate_wave(config, wave, steps, probe_spec, probe_params):
                write_npz(wave.eval_file(step), arrays)
                bar.update()


def require_checkpoints(wave: Wave, steps: list[int]) -> None:
    """Raise UserError if the parameters of any of the steps are missing."""
    missing = sorted(set(steps) - set(checkpoint.steps(wave.params_folder)))
    if missing:
        lost = (checkpoint.latest_step(wave.state_folder) or 0) >= missing[0]
        again = f"; if it was lost, remove {wave.state_folder} to train again" if lost else ""
        raise UserError(f"checkpoint {wave.params_folder / str(missing[0])} is missing; run --mode=train first{again}")


def _evaluate_wave(
    config: Config, wave: Wave, steps: list[int], probe_spec: probe_network.ProbeSpec, probe_params: dict
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    if not steps:
        return
    runner = wave.engine(config)
    spec = make_eval_spec(runner.spec, config, probe_spec)
    prompts = runner.call(naive_prompts, spec, runner.settings)
    losses = _loss_measure(runner, spec)
    abstract = runner.abstract_state().evaluated
    for step in steps:
        params = runner.scatter(checkpoint.restore(wave.params_folder, step, abstract))
        images = runner.call(sampling.draw, spec, params, prompts)
        reading = runner.call(read, spec, images, params, shared=(probe_params,))
        embedded = runner.call(embeddings.measure, runner.spec, params, runner.settings)
        yield step, {**vars(runner.fetch(reading)), **vars(runner.fetch(embedded)), "loss": losses(params)}


def _loss_measure(runner: Engine, spec: EvalSpec) -> Callable[[Parcels], np.ndarray]:
    """Return the function from parameters to losses [r, split, term]; NaN for what is not measured."""
    data = {}
    for split in SPLITS:
        count, _ = loss_batches(spec, split)
        if count and spec.evaluate.losses:
            data[split] = count, runner.call(_LOSS_DATA[split], spec, runner.settings)

    def measure(params: Parcels) -> np.ndarray:
        losses = np.full((runner.runs, len(SPLITS), len(TERMS)), np.nan, np.float32)
        for split, (count, parcels) in data.items():
            batches = [
                runner.call(loss_batch, spec, params, runner.settings, parcels, shared=(np.int32(i),))
                for i in range(count)
            ]
            losses[:, SPLITS.index(split)] = np.mean([runner.fetch(b) for b in batches], axis=0)
        return losses

    return measure


def _validation_data(spec: EvalSpec, setting: Any) -> LossData:
    return loss_data("validation", spec, setting)


def _test_data(spec: EvalSpec, setting: Any) -> LossData:
    return loss_data("test", spec, setting)


_LOSS_DATA = {"validation": _validation_data, "test": _test_data}

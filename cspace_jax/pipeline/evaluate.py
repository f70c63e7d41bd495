"""The evaluation stage measures naive prompting, embeddings and losses at every checkpoint that has none yet."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import TypeVar

import jax
import numpy as np

from cspace_jax.cost import fit
from cspace_jax.engine.engine import Engine, RunGroups
from cspace_jax.errors import UserError
from cspace_jax.evaluation import embeddings, sampling
from cspace_jax.evaluation.losses import exchange_batch, loss_batch, loss_batches, loss_data
from cspace_jax.evaluation.prompts import naive_prompts
from cspace_jax.evaluation.reading import read
from cspace_jax.evaluation.spec import EvalSpec
from cspace_jax.pipeline import log_results
from cspace_jax.pipeline.probe import Probe
from cspace_jax.pipeline.progress import progress
from cspace_jax.pipeline.study import Study
from cspace_jax.pipeline.waves import Wave
from cspace_jax.storage import checkpoint
from cspace_jax.storage.evaluations import EXCHANGED, SPLITS, TERMS, write_npz

T = TypeVar("T")
IMAGES_AT_ONCE = 4096  # that a device samples, of all its runs together
PIXELS_AT_ONCE = IMAGES_AT_ONCE * 32**2  # of them


def evaluate(study: Study, probe: Probe) -> None:
    """Evaluate every saved step of this process's runs that has no evaluation yet.

    Raises:
      UserError: a checkpoint is missing or unfit, a file cannot be written, or a device's memory does not suffice.
    """
    todo = [(wave, wave.unread(study.steps)) for wave in study.own_waves]
    for wave, steps in todo:
        require_checkpoints(study, wave, steps)
    if not any(steps for _, steps in todo):
        return
    with progress(sum(len(steps) for _, steps in todo), "evaluate", "checkpoint") as bar:
        for wave, steps in todo:
            for step, arrays in _evaluate_wave(study, wave, steps, probe):
                write_npz(wave.eval_file(step), arrays)
                log_results.take(study, wave, step, arrays)
                bar.update()
            log_results.finish(study, wave)


def require_checkpoints(study: Study, wave: Wave, steps: list[int]) -> None:
    """Raise UserError if the parameters of any of the steps are missing."""
    missing = sorted(set(steps) - set(checkpoint.steps(wave.params_folder)))
    if missing:
        lost = (checkpoint.latest_step(wave.state_folder) or 0) >= missing[0] or not wave.unread(study.steps)
        folders = f"{wave.state_folder} and {wave.eval_folder}"
        again = f"; if it was lost or not kept (save.keep), remove {folders} to train again" if lost else ""
        raise UserError(f"checkpoint {wave.params_folder / str(missing[0])} is missing; run --mode=train first{again}")


def _evaluate_wave(
    study: Study, wave: Wave, steps: list[int], probe: Probe
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Yield steps of a wave and the arrays of their evaluations."""
    if not steps:
        return
    runner = study.engine(wave)
    measure = Evaluation(study, runner, probe)
    abstract = runner.abstract_state().evaluated
    for step in steps:
        yield step, measure(checkpoint.restore_groups(wave.params_folder, step, abstract, runner.groups))


def images_at_once(runner: Engine) -> int:
    """Return how many images of a run are sampled at once.

    An accelerator's memory then holds those of all runs. The number is 0 on a CPU, where the cache decides.
    """
    if jax.default_backend() == "cpu":
        return 0
    of_device = most_at_once(runner.spec.source.data.image_size)
    return max(1, of_device // -(-runner.runs // len(runner.places)))


def most_at_once(image_size: int) -> int:
    """Return how many images of `image_size` pixels a side an accelerator samples at once, at least 1.

    At most `IMAGES_AT_ONCE` images and `PIXELS_AT_ONCE` pixels are sampled, of all runs together.
    """
    return max(1, min(IMAGES_AT_ONCE, PIXELS_AT_ONCE // image_size**2))


class Portion:
    """Hold the number of a run's images that pass through the network at once.

    It is halved whenever a device's memory is used up.

    Args:
      at_once: what is tried first; 0 = as the cache decides.
      images: of a run in one batch.
      doing: what is done with them, such as "to evaluate 100 runs at once", for the message.
      advice: the fields to lower where not even one image fits, for the message.
    """

    def __init__(self, at_once: int, images: int, doing: str, advice: str):
        self.at_once, self._images, self._doing, self._advice = at_once, images, doing, advice

    def __call__(self, measure: Callable[[int], T]) -> T:
        """Return `measure(at_once)`.

        It is called again with half as many images for as long as memory does not suffice.

        Raises:
          UserError: it does not suffice for one image of each run.
        """
        while True:
            try:
                return measure(self.at_once)
            except jax.errors.JaxRuntimeError as error:
                if not fit.out_of_memory(error):
                    raise
            self._halve()  # here: the error holds what was computed until then

    def _halve(self) -> None:
        """Halve the number of images.

        Raises:
          UserError: it is one already.
        """
        now = min(self.at_once or self._images, self._images)
        if now == 1:
            raise UserError(f"the memory of a device does not suffice {self._doing}, one image of each: {self._advice}")
        self.at_once = now // 2
        print(f"out of memory: {self.at_once} images of a run at once are tried {self._doing}", flush=True)


class Evaluation:
    """Measure the runs of a wave at a save, as a function of their parameters.

    Args:
      study: whose runs are measured.
      runner: the engine of the wave.
      probe: that reads the samples.
    """

    def __init__(self, study: Study, runner: Engine, probe: Probe):
        self._runner, self._probe = runner, probe
        spec = EvalSpec.from_config(study.config, runner.spec, probe.spec)
        self._spec = dataclasses.replace(spec, at_once=images_at_once(runner))
        self._prompts = runner.call(naive_prompts, self._spec, runner.settings)
        self._losses = _Losses(runner, self._spec)
        self._portion = Portion(
            self._spec.at_once, math.prod(spec.shape), f"to evaluate {runner.runs} runs at once",
            "in another workdir, give engine.wave or evaluate.samples_per_class a smaller number",
        )  # fmt: skip

    def __call__(self, params: RunGroups) -> dict[str, np.ndarray]:
        """Return the arrays of an evaluation file, each [r, ...].

        Raises:
          UserError: the memory of a device does not suffice, however few images pass through the network at once.
        """
        return self._portion(lambda at_once: self._measure(dataclasses.replace(self._spec, at_once=at_once), params))

    def _measure(self, spec: EvalSpec, params: RunGroups) -> dict[str, np.ndarray]:
        """Measure with the number of images at once that a spec holds."""
        runner = self._runner
        images = runner.call(sampling.draw, spec, params, self._prompts)
        reading = runner.call(read, spec, params, images, shared=(self._probe.params,))
        embedded = runner.call(embeddings.measure, runner.spec, params, runner.settings)
        return {**vars(runner.fetch(reading)), **vars(runner.fetch(embedded)), **self._losses(spec, params)}


class _Losses:
    """Measure the losses of a wave's runs, as a function of their parameters.

    The images of both splits are drawn once.
    """

    def __init__(self, runner: Engine, spec: EvalSpec):
        self._runner = runner
        self._data = {}
        for split in SPLITS:
            of_split = dataclasses.replace(spec, split=split)
            count, _ = loss_batches(of_split)
            if count and spec.evaluate.losses:
                self._data[split] = count, runner.call(loss_data, of_split, runner.settings)

    def __call__(self, spec: EvalSpec, params: RunGroups) -> dict[str, np.ndarray]:
        """Return "loss" [r, split, term], and of pictures "exchange" [r, c].

        The loss is NaN where it is not measured.
        """
        losses = np.full((self._runner.runs, len(SPLITS), len(TERMS)), np.nan, np.float32)
        for split in self._data:
            losses[:, SPLITS.index(split)] = self._mean(loss_batch, spec, split, params)
        found = {"loss": losses}
        if spec.train.source.real and SPLITS[0] in self._data:
            found[EXCHANGED[0]] = self._mean(exchange_batch, spec, SPLITS[0], params)
        return found

    def _mean(self, measure: Callable, spec: EvalSpec, split: str, params: RunGroups) -> np.ndarray:
        """Return the mean of a measurement over the batches of a split, [r, ...]."""
        runner, (count, data) = self._runner, self._data[split]
        batches = [
            runner.call(measure, spec, params, runner.settings, data, shared=(runner.pool, np.int32(i)))
            for i in range(count)
        ]
        return np.mean([runner.fetch(batch) for batch in batches], axis=0)

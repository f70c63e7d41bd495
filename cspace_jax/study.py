"""The stages of a study over a workdir: train, evaluate, collect. Each stage resumes where an earlier one stopped."""

import io
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
import xarray as xr
from etils import epath
from tqdm import tqdm

from cspace_jax import (
    checkpoint,
    cut,
    elicit,
    embeddings,
    engine,
    grid,
    probe,
    processes,
    results,
    rng,
    signal,
    unet,
    vdm,
)
from cspace_jax.concepts import classes
from cspace_jax.config import Config, save_steps, to_dict
from cspace_jax.elicit import EvalSpec
from cspace_jax.engine import Engine, Parcels
from cspace_jax.errors import UserError
from cspace_jax.train import StepMetrics
from cspace_jax.workdir import Workdir, append_metrics, truncate_metrics, write_atomic


class Wave:
    """The runs that are trained and evaluated at once, and where they keep their files.

    Args:
      workdir: of the study.
      config: the study.
      index: number of the wave.
      runs: its rows of the grid.
    """

    def __init__(self, workdir: Workdir, config: Config, index: int, runs: slice):
        self.rows = range(runs.start, runs.stop)
        self.settings = grid.grid_settings(config.grid)[runs]
        name = f"wave_{index:03d}"
        self.params_folder = workdir.checkpoints / name / "params"
        self.state_folder = workdir.checkpoints / name / "state"
        self.eval_folder = workdir.eval / name

    def eval_file(self, step: int) -> epath.Path:
        """Return the raw evaluation of a step."""
        return self.eval_folder / f"step_{step:08d}.npz"

    def engine(self, config: Config) -> Engine:
        """Return the engine that executes this wave."""
        plan = engine.choose_plan(config, jax.default_backend())
        return Engine(config, grid.stack(self.settings), plan)


def waves(workdir: Workdir, config: Config) -> list[Wave]:
    """Cut the study's grid into waves, in grid order."""
    return [Wave(workdir, config, i, runs) for i, runs in enumerate(cut.load(workdir, config))]


def own_waves(workdir: Workdir, config: Config) -> Sequence[Wave]:
    """Return the waves that this process trains and reads: all of them in a single process."""
    return processes.share(waves(workdir, config), jax.process_index(), jax.process_count())


def train(workdir: Workdir, config: Config) -> None:
    """Train the runs of this process to the last step, from their last checkpoints."""
    for wave in own_waves(workdir, config):
        _train_wave(workdir, config, wave)


def _train_wave(workdir: Workdir, config: Config, wave: Wave) -> None:
    last = config.optim.steps
    saves = {*save_steps(config.save, last), last}  # the last step too, else every start would train up to it again
    done = _resumable_step(config, wave)
    if done == last:
        return
    runner = wave.engine(config)
    state = _restore_state(wave, runner, done)
    truncate_metrics(workdir.own_metrics, done, wave.rows)
    logs = [*range(0, last, config.optim.log_every), last]
    calls = engine.chunks(done, last, [*saves, *logs], runner.plan.steps_per_call)
    with Recorder(workdir, config, wave, done) as recorder, _Saver(wave, last, config.engine.state_seconds) as saver:
        for step, count in calls:
            state, metrics = runner.train(state, step, count)
            recorder.advance(step + count, metrics)
            if step + count in saves:
                recorder.flush()  # a state on disk promises the metrics of all steps before it
                saver.save(step + count, runner, state)


def _resumable_step(config: Config, wave: Wave) -> int:
    """Return the step of the last state, 0 if there is none or if a checkpoint to evaluate before it was removed."""
    done = checkpoint.latest_step(wave.state_folder) or 0
    stored = set(checkpoint.steps(wave.params_folder))
    lost = [s for s in _unread(config, wave) if s <= done and s not in stored]
    if lost:
        print(f"checkpoint {wave.params_folder / str(lost[0])} is missing: training starts again from step 0")
    return 0 if lost else done


def _unread(config: Config, wave: Wave) -> list[int]:
    """Return the saved steps that have no evaluation yet."""
    return [s for s in save_steps(config.save, config.optim.steps) if not wave.eval_file(s).exists()]


def _restore_state(wave: Wave, runner: Engine, step: int) -> Parcels:
    if step == 0:
        for later in checkpoint.steps(wave.state_folder):  # of a training that starts again
            checkpoint.remove(wave.state_folder, later)
        return runner.init()
    return runner.scatter(checkpoint.restore(wave.state_folder, step, runner.abstract_state()))


class _Saver:
    """Save the parameters of every save step for evaluation, and the last full state for resuming.

    The state is three times the parameters (AdamW's moments), so it is saved at most every `seconds` and at the last
    save, and older ones are removed once a newer one is complete. After an interruption the steps since the last
    state are trained again.
    """

    def __init__(self, wave: Wave, last: int, seconds: float):
        self._params = checkpoint.CheckpointWriter(wave.params_folder)
        self._state = checkpoint.CheckpointWriter(wave.state_folder)
        self._folder, self._last, self._seconds = wave.state_folder, last, seconds
        self._saved = time.monotonic()

    def save(self, step: int, runner: Engine, state: Parcels) -> None:
        # In this order: a state on disk promises that the parameters of its step and of all earlier ones are there.
        self._finish()
        self._params.save(step, runner.gather([parcel.evaluated for parcel in state]))
        self._params.wait()
        if step == self._last or time.monotonic() - self._saved >= self._seconds:
            self._state.save(step, runner.gather(state))
            self._saved = time.monotonic()

    def _finish(self) -> None:
        self._state.wait()
        for old in checkpoint.steps(self._folder)[:-1]:
            checkpoint.remove(self._folder, old)

    def __enter__(self) -> "_Saver":
        return self

    def __exit__(self, *error: object) -> None:
        self._params.__exit__(*error)  # type: ignore[arg-type]
        self._state.__exit__(*error)  # type: ignore[arg-type]
        if error[0] is None:
            self._finish()


class Recorder:
    """Write metrics.jsonl, show progress with ETA, and report each run that diverges once.

    Metrics are fetched one call late, so that the device never waits for the host.
    """

    def __init__(self, workdir: Workdir, config: Config, wave: Wave, done: int):
        self._path, self._wave, self._optim = workdir.own_metrics, wave, config.optim
        self._bar = progress(config.optim.steps, "train", "step", done)
        self._pending: tuple[int, list[StepMetrics]] | None = None
        self._diverged: set[int] = set()
        self._mark = (time.monotonic(), done)

    def advance(self, step: int, metrics: list[StepMetrics]) -> None:
        """Take the metrics of the call that ended at `step`, and deal with those of the call before."""
        self.flush()
        self._pending = (step, metrics)

    def flush(self) -> None:
        """Deal with the metrics that were taken last."""
        if self._pending is None:
            return
        (step, metrics), self._pending = self._pending, None
        jax.block_until_ready(metrics)
        self._bar.update(step - self._bar.n)
        if step % self._optim.log_every == 0 or step == self._optim.steps:
            self._log(step, metrics)

    def _log(self, step: int, metrics: list[StepMetrics]) -> None:
        fetched: StepMetrics = jax.tree.map(lambda *leaves: np.concatenate(leaves), *jax.device_get(metrics))
        now, (then, before) = time.monotonic(), self._mark
        rate = (step - before) / max(now - then, 1e-9)
        self._mark = (now, step)
        columns = vars(fetched)
        rows = [
            {"run": run, **setting, "step": step, **{k: v[i] for k, v in columns.items()}, "steps_per_second": rate}
            for i, (run, setting) in enumerate(zip(self._wave.rows, self._wave.settings, strict=True))
        ]
        append_metrics(self._path, rows)
        self._report_diverged(step, fetched)
        alive = fetched.diffusion[np.isfinite(fetched.loss)]
        loss = f"{alive.mean():.3f}" if alive.size else "nan"
        self._bar.set_postfix_str(f"{rate * len(rows):.1f} run-steps/s, diffusion loss {loss} bits/dim")

    def _report_diverged(self, step: int, metrics: StepMetrics) -> None:
        for i in np.flatnonzero(~np.isfinite(metrics.loss)):
            run = self._wave.rows[i]
            if run not in self._diverged:
                self._diverged.add(run)
                self._bar.write(f"run {run} diverged (loss is not finite at step {step}); the other runs go on")

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is None:
            self.flush()
        self._bar.close()


def progress(total: int, label: str, unit: str, initial: int = 0) -> tqdm:
    """Return a progress bar with ETA on standard error; it shows the share of the first process, others have none."""
    silent = not processes.is_first()
    return tqdm(
        total=total, initial=initial, desc=label, unit=unit, dynamic_ncols=True, mininterval=0.5, disable=silent
    )


def evaluate(workdir: Workdir, config: Config, probe_spec: probe.ProbeSpec, probe_params: dict) -> None:
    """Evaluate every saved step of this process's runs that has no evaluation yet.

    Raises:
      UserError: a checkpoint is missing or unfit.
    """
    todo = [(wave, _unread(config, wave)) for wave in own_waves(workdir, config)]
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
    config: Config, wave: Wave, steps: list[int], probe_spec: probe.ProbeSpec, probe_params: dict
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    if not steps:
        return
    runner = wave.engine(config)
    spec = elicit.make_spec(runner.spec, config, probe_spec)
    prompts = runner.call(elicit.naive_prompts, spec, runner.settings)
    losses = _loss_measure(runner, spec)
    abstract = runner.abstract_state().evaluated
    for step in steps:
        params = runner.scatter(checkpoint.restore(wave.params_folder, step, abstract))
        images = runner.call(elicit.draw, spec, params, prompts)
        reading = runner.call(elicit.read, spec, images, params, shared=(probe_params,))
        embedded = runner.call(embeddings.measure, runner.spec, params, runner.settings)
        yield step, {**vars(runner.fetch(reading)), **vars(runner.fetch(embedded)), "loss": losses(params)}


def _loss_measure(runner: Engine, spec: EvalSpec) -> Callable[[Parcels], np.ndarray]:
    """Return the function from parameters to losses [r, split, term]; NaN for what is not measured."""
    data = {}
    for split in results.SPLITS:
        count, _ = elicit.loss_batches(spec, split)
        if count and spec.evaluate.losses:
            data[split] = count, runner.call(_LOSS_DATA[split], spec, runner.settings)

    def measure(params: Parcels) -> np.ndarray:
        losses = np.full((runner.runs, len(results.SPLITS), len(results.TERMS)), np.nan, np.float32)
        for split, (count, parcels) in data.items():
            batches = [
                runner.call(elicit.loss_batch, spec, params, runner.settings, parcels, shared=(np.int32(i),))
                for i in range(count)
            ]
            losses[:, results.SPLITS.index(split)] = np.mean([runner.fetch(b) for b in batches], axis=0)
        return losses

    return measure


def _validation_data(spec: EvalSpec, setting: Any) -> elicit.LossData:
    return elicit.loss_data("validation", spec, setting)


def _test_data(spec: EvalSpec, setting: Any) -> elicit.LossData:
    return elicit.loss_data("test", spec, setting)


_LOSS_DATA = {"validation": _validation_data, "test": _test_data}


def write_npz(path: epath.Path, arrays: dict[str, Any]) -> None:
    """Write named arrays as a compressed .npz, atomically."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_atomic(path, buffer.getvalue())


def collect(workdir: Workdir, config: Config, probe_accuracy: dict[str, float] | None = None) -> xr.Dataset:
    """Merge all evaluations of naive prompting, and what was measured of embeddings, into the labelled dataset."""
    steps = save_steps(config.save, config.optim.steps)
    evaluations = {step: _merge_runs(workdir, config, step, results.MEASURED) for step in steps}
    settings = grid.grid_settings(config.grid)
    signals = _signals(config)
    ds = results.build_dataset(
        evaluations,
        settings,
        classes(config.data.active),
        protocols=("naive",),
        signal=signals["means"],
        signal_range=signals["ranges"],
        config=to_dict(config),
        probe_accuracy=probe_accuracy,
    )
    files = [wave.eval_file(step) for wave in waves(workdir, config) for step in steps]
    if not all(results.holds(path, embeddings.MEASURED) for path in files):
        return ds  # evaluated by a version that did not measure them
    measured = {step: _merge_runs(workdir, config, step, embeddings.MEASURED) for step in steps}
    blocks = unet.block_features(vdm.make_vdm(config.network, config.diffusion, "xla").network)
    return embeddings.extend(ds, measured, blocks, embeddings.vector_names(config.data.active))


def samples(workdir: Workdir, config: Config) -> dict[int, np.ndarray]:
    """Return the kept sample images by step: uint8 [r, k, n, h, w, 3]."""
    steps = save_steps(config.save, config.optim.steps)
    return {step: _merge_runs(workdir, config, step, ("samples",))["samples"] for step in steps}


def _merge_runs(workdir: Workdir, config: Config, step: int, keys: tuple[str, ...]) -> dict[str, np.ndarray]:
    parts = [results.read_evaluation(wave.eval_file(step), keys) for wave in waves(workdir, config)]
    return {key: np.concatenate([part[key] for part in parts]) for key in keys}


def _signals(config: Config) -> dict[str, np.ndarray]:
    """Measure the concept signal [r, c] of every run at the class means and on the training ranges."""
    settings = grid.grid_settings(config.grid)
    stacked = grid.stack(settings)
    # Runs that differ in their seed or mask alone have the same distribution of images: one fixed key, one measurement.
    levels = {_images_of(s): i for i, s in enumerate(settings)}
    chosen = jax.tree.map(lambda leaf: leaf[np.array(list(levels.values()))], stacked)
    key = rng.stream(rng.run_key(0), "signal")

    def measure(setting: Any) -> dict[str, jax.Array]:
        return {
            "means": signal.pixel_signal(setting, config.data, key),
            "ranges": signal.range_signal(setting, config.data, key),
        }

    measured = jax.device_get(jax.jit(lambda s: jax.lax.map(measure, s))(chosen))
    rows = [list(levels).index(_images_of(s)) for s in settings]
    return {name: values[rows] for name, values in measured.items()}


def _images_of(setting: dict[str, Any]) -> tuple[float, ...]:
    return tuple(value for name, value in setting.items() if name not in ("seed", "mask"))


def minutes(seconds: float) -> str:
    """Return a duration in words."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{math.ceil(seconds / 3600)} h"

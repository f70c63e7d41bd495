"""The stage that asks every checkpoint with the battery of protocols (`protocols.py`), and its raw files.

One compiled sampler serves all protocols, classes, samples and runs of every checkpoint. Step 0 is the network at
initialisation, a control. Files lie in a folder named after the battery, so another battery never touches them.
"""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from etils import epath

from cspace_jax import checkpoint, elicit, probe, protocols, results
from cspace_jax.config import Config, save_steps, to_dict
from cspace_jax.elicit import EvalSpec
from cspace_jax.engine import Engine, Parcels
from cspace_jax.errors import UserError
from cspace_jax.study import Wave, progress, require_checkpoints, sample, waves, write_npz
from cspace_jax.workdir import Workdir

MEASURED = ("prob_samples", "mean_rgb")


def check(config: Config) -> None:
    """Raise UserError for a protocol that does not exist; warn of guidance on a network trained without dropping."""
    protocols.layout(config.elicit)
    if protocols.uses_guidance(config.elicit) and config.diffusion.p_uncond == 0:
        print(
            "warning: elicit.protocols holds guidance, but diffusion.p_uncond = 0: the network never saw the null "
            "conditioning, so its unconditional prediction is not one"
        )


def steps(config: Config) -> tuple[int, ...]:
    """Return the steps that the battery is measured at: initialisation and every save."""
    return (0, *save_steps(config.save, config.optim.steps))


def folder(workdir: Workdir, config: Config) -> epath.Path:
    """Return where a battery keeps its files, by a hash of all that decides its numbers."""
    decisive = {**to_dict(config)["elicit"], "sampling_steps": config.evaluate.sampling_steps}
    del decisive["images_per_call"]
    text = json.dumps(decisive, sort_keys=True)
    return workdir.root / "elicit" / hashlib.sha256(text.encode()).hexdigest()[:12]


def _file(workdir: Workdir, config: Config, wave: Wave, step: int) -> epath.Path:
    return folder(workdir, config) / wave.params_folder.parent.name / f"step_{step:08d}.npz"


def finished(workdir: Workdir, config: Config) -> bool:
    """Return whether the config has a battery and all of it is measured."""
    files = [_file(workdir, config, wave, step) for wave in waves(workdir, config) for step in steps(config)]
    return bool(config.elicit.protocols) and all(file.exists() for file in files)


def evaluate(workdir: Workdir, config: Config, probe_spec: probe.ProbeSpec, probe_params: dict) -> None:
    """Measure the battery at every step that has no file yet.

    Raises:
      UserError: a checkpoint is missing or unfit.
    """
    cut = waves(workdir, config)
    todo = [(wave, [s for s in steps(config) if not _file(workdir, config, wave, s).exists()]) for wave in cut]
    for wave, missing in todo:
        require_checkpoints(wave, [step for step in missing if step])
        if missing:
            require_checkpoints(wave, [config.optim.steps])  # whose projections are patched in
    if not any(missing for _, missing in todo):
        return
    with progress(sum(len(missing) for _, missing in todo), "elicit", "checkpoint") as bar:
        for wave, missing in todo:
            for step, arrays in _evaluate_wave(config, wave, missing, probe_spec, probe_params):
                write_npz(_file(workdir, config, wave, step), arrays)
                bar.update()


def _evaluate_wave(
    config: Config, wave: Wave, missing: list[int], probe_spec: probe.ProbeSpec, probe_params: dict
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    if not missing:
        return
    runner = wave.engine(config)
    spec = elicit.make_battery_spec(runner.spec, config, probe_spec)
    batches = _batches(spec, runner.call(elicit.battery, spec, runner.settings))
    total = len(protocols.layout(config.elicit))
    abstract = runner.abstract_state().evaluated

    def load(step: int) -> Parcels:
        if step == 0:
            return [state.evaluated for state in runner.init()]
        return runner.scatter(checkpoint.restore(wave.params_folder, step, abstract))

    patch = load(config.optim.steps)
    for step in missing:
        params = load(step)
        read = [_measure(runner, spec, params, patch, batch, probe_params) for batch in batches]
        yield step, {name: np.concatenate([one[name] for one in read], axis=1)[:, :total] for name in MEASURED}


def _batches(spec: EvalSpec, queries: Parcels) -> list[Parcels]:
    """Cut the queries [r, q, ...] into batches of equal length, so that one program serves all; the last is padded."""
    size = spec.shape[0]
    total = jax.tree.leaves(queries[0])[0].shape[1]
    rows = [np.arange(start, start + size) % total for start in range(0, total, size)]
    return [[jax.tree.map(lambda leaf, r=row: leaf[:, r], parcel) for parcel in queries] for row in rows]


def _measure(
    runner: Engine, spec: EvalSpec, params: Parcels, patch: Parcels, queries: Parcels, probe_params: dict
) -> dict[str, Any]:
    prompts = runner.call(elicit.prepare, spec, params, patch, queries, runner.settings)
    images = sample(runner, spec, params, prompts)
    reading = runner.call(elicit.read, spec, images, params, shared=(probe_params,))
    return vars(runner.fetch(reading))


def load(workdir: Workdir, config: Config) -> dict[int, dict[str, np.ndarray]]:
    """Return the raw battery by step, runs merged: prob_samples [r, q, k, s, c] and mean_rgb [r, q, k, 3].

    Raises:
      UserError: a file is missing or damaged.
    """
    if not finished(workdir, config):
        raise UserError(f"elicit: {folder(workdir, config)} is not complete; run --mode=elicit first")
    merged = {}
    for step in steps(config):
        files = [_file(workdir, config, wave, step) for wave in waves(workdir, config)]
        parts = [results.read_evaluation(file, MEASURED) for file in files]
        merged[step] = {name: np.concatenate([part[name] for part in parts]) for name in MEASURED}
    return merged

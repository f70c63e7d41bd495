"""A model is one run at one checkpoint, to be looked at and sampled by hand."""

import bisect
import dataclasses
import json
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from cspace_jax import rng
from cspace_jax.config import grid
from cspace_jax.config.reading import fail
from cspace_jax.config.setting import Setting
from cspace_jax.engine.engine import abstract_run
from cspace_jax.evaluation import sampling
from cspace_jax.evaluation.probe import ProbeSpec
from cspace_jax.evaluation.prompts import Prompts
from cspace_jax.evaluation.spec import EvalSpec
from cspace_jax.model import torch_weights
from cspace_jax.pipeline.evaluate import require_checkpoints
from cspace_jax.pipeline.study import Study
from cspace_jax.storage import checkpoint
from cspace_jax.storage.files import PathLike, located, write_atomic
from cspace_jax.training.run import TrainSpec
from cspace_jax.tree import take


@dataclasses.dataclass(frozen=True)
class Model:
    """The diffusion model of one run at one saved step.

    Attributes:
      spec: static description of evaluation, the network among it.
      params: parameters that evaluation uses (the average of the weights if there is one).
      setting: the run's swept numbers.
      run: its number, a row of the grid.
      step: training steps done.
    """

    spec: EvalSpec
    params: dict
    setting: Setting
    run: int
    step: int

    def sample(
        self, conditioning: Any, key: jax.Array | int = 0, n: int = 1, guidance: float | None = None
    ) -> np.ndarray:
        """Draw images for conditioning vectors.

        Args:
          conditioning: [d], or [b, d] for several; `cs.data.prompt` makes one from words.
          key: random key of the noise, or a seed.
          n: images for each vector.
          guidance: weight w of classifier-free guidance; None = that of the configuration.

        Returns:
          Images [n, h, w, 3], or [b, n, h, w, 3] for several vectors, float32 clipped to [0, 1]; axis h is x.

        Raises:
          UserError: the conditioning has another shape, n is below 1, or guidance is asked of a network that was
            trained without (diffusion.p_uncond = 0).
        """
        vectors = jnp.asarray(conditioning, jnp.float32)
        entries = self.spec.train.vdm.network.entries
        if vectors.ndim not in (1, 2) or vectors.shape[-1] != entries:
            fail("conditioning", vectors.shape, f"must have the shape [{entries}] or [b, {entries}]")
        if n < 1:
            fail("n", n, "must be at least 1")
        if guidance not in (None, 1, 1.0) and self.spec.train.vdm.diffusion.p_uncond == 0:
            fail("guidance", guidance, "must be None or 1: the network was trained with diffusion.p_uncond = 0")
        several = vectors.reshape(-1, entries)
        spec = dataclasses.replace(self.spec, shape=(1, len(several), n))
        weights = None if guidance is None else jnp.full(len(several) * n, guidance, jnp.float32)
        noise_key = rng.run_key(key) if isinstance(key, int) else key
        prompts = Prompts(jnp.repeat(several, n, axis=0), noise_key, weights)
        images = np.clip(_draw(spec, self.params, prompts), 0.0, 1.0)
        return images.reshape(*vectors.shape[:-1], n, *images.shape[1:])

    def save(self, path: PathLike) -> epath.Path:
        """Write the weights as a .safetensors file, atomically, and return its path.

        The tensors have the names of the reference implementation. Its network loads them
        (`load_state_dict(safetensors.torch.load_file(path))`), and so does `model.torch_weights`. The header names run,
        step, swept numbers and network.

        Raises:
          UserError: the name does not end in .safetensors, the file exists, the package safetensors is not installed,
            or the file cannot be written.
        """
        file = located(path)
        if file.suffix != ".safetensors":
            fail("to", os.fspath(path), "must end in .safetensors")
        if file.exists():
            fail("to", os.fspath(path), "exists; choose another name")
        network = self.spec.train.vdm.network
        setting = {name: np.asarray(value).item() for name, value in vars(self.setting).items()}
        plain = {"run": self.run, "step": self.step, "setting": setting, "network": dataclasses.asdict(network)}
        facts = {"written_by": "cspace_jax", **{name: json.dumps(value) for name, value in plain.items()}}
        state = torch_weights.vdm_state(network, jax.device_get(self.params))
        write_atomic(file, torch_weights.write_safetensors(state, facts))
        return file


_draw = jax.jit(sampling.draw, static_argnums=0)


def restore(study: Study, run: int = 0, step: int | None = None) -> Model:
    """Return the model of one run at a saved step (None: the last).

    Runs are numbered from 0 over all parts of the study.

    Raises:
      UserError: there is no such run, the step was not saved, or its checkpoint is missing or damaged.
    """
    first = study.first_runs
    if not 0 <= run < first[-1]:
        fail("run", run, f"must be in [0, {first[-1] - 1}], a row of the grid")
    number, place = run, bisect.bisect_right(first, run) - 1
    study, run = study.parts[place], run - first[place]
    step = study.steps[-1] if step is None else step
    if step not in study.steps:
        fail("step", step, f"must be a saved step, one of {', '.join(map(str, study.steps))}")
    wave = next(wave for wave in study.waves if run in wave.rows)
    require_checkpoints(study, wave, [step])
    train = TrainSpec.from_config(study.config, study.plan)
    setting = take(grid.stack([wave.settings[wave.rows.index(run)]]), 0)
    one = abstract_run(
        train, jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), setting)
    ).evaluated
    stacked = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((len(wave.rows), *leaf.shape), leaf.dtype), one)
    params = checkpoint.restore_run(wave.params_folder, step, stacked, wave.rows.index(run))
    spec = EvalSpec.from_config(study.config, train, ProbeSpec.from_config(study.config, study.plan))
    return Model(spec, params, setting, number, step)

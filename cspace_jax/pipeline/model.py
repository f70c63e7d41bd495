"""A model is one run at one checkpoint, to be looked at and sampled by hand."""

import bisect
import contextlib
import dataclasses
import json
import operator
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from cspace_jax import rng
from cspace_jax.config import grid
from cspace_jax.config.reading import MAX_FLOAT, fail
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
from cspace_jax.storage.files import PathLike, located, require_outside, write_atomic
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
      workdir: folder of the study, in which `save` writes nothing; None = not known.
    """

    spec: EvalSpec
    params: dict
    setting: Setting
    run: int
    step: int
    workdir: PathLike | None = None

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
          UserError: the conditioning is not finite numbers of this shape, the key is neither a random key nor a whole
            number, n is none or below 1, or guidance is not a finite number, or is asked of a network that was trained
            without (diffusion.p_uncond = 0).
        """
        vectors, noise_key, n = _vectors(conditioning, self.spec.train.vdm.network.entries), _key(key), _whole("n", n)
        if n < 1:
            fail("n", n, "must be at least 1")
        if guidance is not None and not _is_finite_number(guidance):
            fail("guidance", guidance, "must be None or a finite number")
        if guidance not in (None, 1, 1.0) and self.spec.train.vdm.diffusion.p_uncond == 0:
            fail("guidance", guidance, "must be None or 1: the network was trained with diffusion.p_uncond = 0")
        several = vectors.reshape(-1, vectors.shape[-1])
        spec = dataclasses.replace(self.spec, shape=(1, len(several), n))
        weights = None if guidance is None else jnp.full(len(several) * n, guidance, jnp.float32)
        prompts = Prompts(jnp.repeat(several, n, axis=0), noise_key, weights)
        images = np.clip(_draw(spec, self.params, prompts), 0.0, 1.0)
        return images.reshape(*vectors.shape[:-1], n, *images.shape[1:])

    def save(self, path: PathLike) -> epath.Path:
        """Write the weights as a .safetensors file, atomically, and return its path.

        The tensors have the names of the reference implementation. Its network loads them
        (`load_state_dict(safetensors.torch.load_file(path))`), and so does `model.torch_weights`. The header names run,
        step, swept numbers and network.

        Raises:
          UserError: the name does not end in .safetensors, the file exists or lies in the workdir, the package
            safetensors is not installed, or the file cannot be written.
        """
        file = located(path)
        if file.suffix != ".safetensors":
            fail("to", os.fspath(path), "must end in .safetensors")
        if self.workdir is not None:
            require_outside(path, self.workdir, "to")
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


def _vectors(conditioning: Any, entries: int) -> jax.Array:
    """Return conditioning vectors [d] or [b, d] as float32.

    Raises:
      UserError: they are not numbers, not finite, none at all, or of another length than `entries`.
    """
    try:
        with np.errstate(over="ignore"):  # what overflows is refused below
            vectors = jnp.asarray(conditioning, jnp.float32)
    except (TypeError, ValueError, OverflowError):
        fail("conditioning", conditioning, "must be numbers [d] or [b, d]; cs.data.prompt makes them of words")
    if vectors.ndim not in (1, 2) or vectors.shape[-1] != entries or not vectors.size:
        fail("conditioning", vectors.shape, f"must have the shape [{entries}] or [b, {entries}], b at least 1")
    if not bool(jnp.isfinite(vectors).all()):
        fail("conditioning", conditioning, "must be finite numbers of float32")
    return vectors


def _key(key: Any) -> jax.Array:
    """Return a random key, typed or of two raw words, as it is, and the key of a seed.

    Raises:
      UserError: the seed is no whole number, or none of 64 bits.
    """
    if isinstance(key, jax.Array):
        typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
        if (typed and key.ndim == 0) or (key.dtype == jnp.uint32 and key.shape == (2,)):
            return key
    seed = _whole("key", key)
    if not -(2**63) <= seed < 2**63:
        fail("key", seed, "must be a whole number of 64 bits")
    return rng.run_key(seed)


def _whole(name: str, value: Any) -> int:
    """Return a whole number, such as a NumPy one, as an int.

    Raises:
      UserError: it is none. True, False and 1.0 are none either.
    """
    if not isinstance(value, bool | np.bool_):
        with contextlib.suppress(TypeError):
            return operator.index(value)
    fail(name, value, "must be a whole number")


def _is_finite_number(value: Any) -> bool:
    """Return whether a value is one finite number of float32."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):
        return False
    return array.ndim == 0 and array.dtype.kind in "iuf" and bool(abs(float(array)) <= MAX_FLOAT)


def restore(study: Study, run: int = 0, step: int | None = None) -> Model:
    """Return the model of one run at a saved step (None: the last).

    Runs are numbered from 0 over all parts of the study.

    Raises:
      UserError: there is no such run, the step was not saved, one of them is no whole number, or the checkpoint is
        missing or damaged.
    """
    run, step = _whole("run", run), None if step is None else _whole("step", step)
    first = study.first_runs
    if not 0 <= run < first[-1]:
        fail("run", run, f"must be in [0, {first[-1] - 1}], a row of the grid")
    root, number, place = study.workdir.root, run, bisect.bisect_right(first, run) - 1
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
    return Model(spec, params, setting, number, step, root)

"""The elicitation stage samples every protocol at every checkpoint and stores the raw probe readings.

One compiled sampler serves all protocols, classes, samples and runs of every checkpoint; those that are guided have one
of their own. Step 0 is the network at initialisation, a control. Files lie in a folder named after the battery, so
another battery never touches them.
"""

import dataclasses
import json
import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from etils import epath

from cspace_jax import processes
from cspace_jax.config import Config, ElicitConfig, fingerprint, grid, reading, save_steps, to_dict
from cspace_jax.cost import disk
from cspace_jax.data.opened import source_of
from cspace_jax.engine.engine import Engine, RunGroups
from cspace_jax.errors import UserError
from cspace_jax.evaluation import protocols, sampling
from cspace_jax.evaluation.prompts import battery, prepare
from cspace_jax.evaluation.reading import read
from cspace_jax.evaluation.spec import EvalSpec
from cspace_jax.pipeline.evaluate import Portion, images_at_once, require_checkpoints
from cspace_jax.pipeline.probe import Probe
from cspace_jax.pipeline.progress import progress
from cspace_jax.pipeline.study import Study
from cspace_jax.pipeline.waves import Wave
from cspace_jax.storage import checked_json, checkpoint, extensions
from cspace_jax.storage.evaluations import ELICITED, write_npz
from cspace_jax.storage.workdir import DESCRIPTION, step_file

_SAMPLER = ("sampling_steps", "guidance")  # fields of the evaluation that decide a battery's numbers
FIELDS = "elicit"  # in a description: the fields of the configuration, to ask it again; older versions left them out


def check(config: Config) -> None:
    """Refuse protocols that cannot be asked with.

    A line warns of guidance on a network that was trained without dropping conditionings.

    Raises:
      UserError: a protocol does not exist, does not suit the network or the source, gives a query of another form, or
        patches with parameters that are not kept.
    """
    protocols.check_network(config.elicit, config.network.conditioning)
    protocols.check_source(config.elicit, source_of(config.data))
    ask = partial(protocols.queries, config.elicit, source_of(config.data), grid.example_setting(config.grid))
    jax.eval_shape(ask, jax.random.key(0))
    dropped = len(save_steps(config.save, config.optim.steps)) - len(disk.kept_steps(config))
    if dropped and patches(config):
        raise UserError(
            f"elicit.protocols asks for patching, which needs the parameters of all saves, and {dropped} of them are "
            "not kept: set save.keep=all, fewer saves, or no patching"
        )
    if protocols.uses_guidance(config.elicit) and config.diffusion.p_uncond == 0:
        print(
            "warning: elicit.protocols holds guidance, but diffusion.p_uncond = 0: the network never saw the null "
            "conditioning, so its unconditional prediction is not one"
        )


def steps(study: Study) -> tuple[int, ...]:
    """Return the steps that the battery is measured at: 0 (initialisation) and every save."""
    return (0, *study.steps)


def folder(study: Study) -> epath.Path:
    """Return the folder of a battery. Its name is a hash of all that decides the battery's numbers."""
    fields = to_dict(study.config)
    decisive = {**fields["elicit"], **{name: fields["evaluate"][name] for name in _SAMPLER}}
    del decisive["images_per_call"]
    asked = protocols.fingerprint(study.config.elicit)
    return study.workdir.elicit / fingerprint(json.dumps(decisive, sort_keys=True) + asked, 12)


def answer_file(root: epath.Path, wave: Wave, step: int) -> epath.Path:
    """Return the file of a wave's raw answers at a step, in the folder of a battery."""
    return step_file(root / wave.name, step)


def patches(config: Config) -> bool:
    """Return whether a protocol uses the parameters of another checkpoint (`elicit.patch_step`)."""
    if not config.elicit.protocols:
        return False
    setting = grid.example_setting(config.grid)
    return bool(protocols.queries(config.elicit, source_of(config.data), setting, jax.random.key(0)).patched.any())


def is_answered(study: Study, root: epath.Path) -> bool:
    """Return whether all runs answered the battery in a folder at every step."""
    return all(answer_file(root, wave, step).exists() for wave in study.waves for step in steps(study))


def ask(study: Study, probe: Probe) -> None:
    """Ask this process's runs with the battery at every step that has no answer file yet.

    Raises:
      UserError: a checkpoint is missing or unfit, a file cannot be written, or a device's memory does not suffice.
    """
    root = folder(study)
    todo = [(wave, [s for s in steps(study) if not answer_file(root, wave, s).exists()]) for wave in study.own_waves]
    for wave, missing in todo:
        require_checkpoints(study, wave, [step for step in missing if step])
        if missing:
            require_checkpoints(study, wave, [patch_step(study)])
    if not any(missing for _, missing in todo):
        lost = not (root / DESCRIPTION).exists()
        if processes.is_first() and (lost or FIELDS not in (stored_description(root) or {FIELDS: None})):
            describe_battery(study, root)
        return
    describe_battery(study, root)
    with progress(sum(len(missing) for _, missing in todo), "elicit", "checkpoint") as bar:
        for wave, missing in todo:
            for step, arrays in _ask_wave(study, wave, missing, probe):
                write_npz(answer_file(root, wave, step), arrays)
                bar.update()


def names_and_values(config: Config) -> tuple[list[str], list[str]]:
    """Return the protocol of each query, and its values as text, as two lists of equal length."""
    names, values = zip(*protocols.layout(config.elicit), strict=True)
    return list(names), [", ".join(str(value) for value in one if value is not None) for one in values]


def describe_battery(study: Study, root: epath.Path) -> None:
    """Write the description of a battery into its folder.

    Raises:
      UserError: the file cannot be written.
    """
    names, labels = names_and_values(study.config)
    described = {
        "protocols": names, "values": labels, "samples": study.config.elicit.samples, "controls": protocols.CONTROLS,
        FIELDS: to_dict(study.config)["elicit"],
    }  # fmt: skip
    checked_json.write(root / DESCRIPTION, described)


def batteries(study: Study) -> tuple[list[Study], list[epath.Path]]:
    """Return the study as it asks each battery of its workdir, its own first, and the batteries it cannot ask.

    The second result is the list of their folders. The study cannot ask a battery whose description does not say all of
    it, or one of protocols that are written otherwise by now.
    """
    asked = {folder(study): study} if study.config.elicit.protocols else {}
    unknown = []
    for root in study.workdir.batteries():
        fields = (stored_description(root) or {}).get(FIELDS)
        if root in asked:
            continue
        again = study if fields is None else with_battery(study, reading.read(ElicitConfig, fields, FIELDS))
        if fields is not None and folder(again) == root:
            asked[root] = again
        else:
            unknown.append(root)
    return list(asked.values()), unknown


def asked_of(parts: Sequence[Study]) -> list[list[Study]]:
    """Return for each battery to be asked the parts of a study that ask it.

    A study asks its own battery. If something was added to it, it asks all others of the workdir too.
    """
    study = parts[0]
    asked = [study] if study.config.elicit.protocols else []
    if len(parts) > 1 or extensions.read(study.workdir).steps:
        asked, _ = batteries(study)
    return [[with_battery(part, one.config.elicit) for part in parts] for one in asked]


def stored_description(root: epath.Path) -> dict[str, Any] | None:
    """Return the stored description of a battery, or None if it is missing or damaged.

    `merged_batteries.load` reports the damage.
    """
    try:
        return checked_json.read(root / DESCRIPTION)
    except (OSError, ValueError):
        return None


def require_known(study: Study) -> None:
    """Raise UserError if the workdir holds a battery that cannot be asked of further runs and saves."""
    _, unknown = batteries(study)
    if unknown:
        raise UserError(
            f"extend: the battery in {unknown[0]} cannot be asked of what is added, an older version did not write all "
            "of it down: ask it once more with --mode=elicit, or remove the folder"
        )


def with_battery(study: Study, fields: ElicitConfig) -> Study:
    """Return a study that asks another battery, with the fields `fields`."""
    return dataclasses.replace(study, config=dataclasses.replace(study.config, elicit=fields))


def patch_step(study: Study) -> int:
    """Return the saved step whose conditioning projections patched queries use (0 in the configuration: the last)."""
    return study.config.elicit.patch_step or study.steps[-1]


def _ask_wave(
    study: Study, wave: Wave, missing: list[int], probe: Probe
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Yield the missing steps of a wave and their answers."""
    if not missing:
        return
    runner = study.engine(wave)
    questions = Questions(study, runner, probe)
    abstract = runner.abstract_state().evaluated

    def load(step: int) -> RunGroups:
        if step == 0:
            return [state.evaluated for state in runner.init()]
        return checkpoint.restore_groups(wave.params_folder, step, abstract, runner.groups)

    patch = load(patch_step(study))
    for step in missing:
        yield step, questions(load(step), patch)


class Questions:
    """Put the battery of protocols to the runs of a wave, as a function of their parameters.

    Args:
      study: whose runs are asked.
      runner: the engine of the wave.
      probe: that reads the samples.
    """

    def __init__(self, study: Study, runner: Engine, probe: Probe):
        self._runner, self._probe = runner, probe
        at_once = study.config.elicit.images_per_call or images_at_once(runner)
        spec_of = partial(EvalSpec.of_battery, study.config, runner.spec, probe.spec, at_once)
        queries = runner.call(battery, spec_of(), runner.settings)
        weights = runner.fetch([group.guidance for group in queries])  # [r, q, k]
        one_branch = np.isin(weights, protocols.ONE_BRANCH).all(axis=(0, 2))
        self._parts: list[tuple[EvalSpec, np.ndarray, list[RunGroups]]] = []
        for guided, rows in ((False, np.flatnonzero(one_branch)), (True, np.flatnonzero(~one_branch))):
            if rows.size:
                spec = spec_of(queries=rows.size, guided=guided)
                self._parts.append((spec, rows, _batches(spec, queries, rows)))
        self._portion = Portion(
            self._parts[0][0].at_once, max(math.prod(spec.shape) for spec, _, _ in self._parts),
            f"to ask {runner.runs} runs at once", "give elicit.images_per_call or, in another workdir, engine.wave a "
            "smaller number",
        )  # fmt: skip

    def __call__(self, params: RunGroups, patch: RunGroups) -> dict[str, np.ndarray]:
        """Return the arrays of an answer file: prob_samples [r, q, k, s, c] and mean_rgb [r, q, k, 3].

        `patch` holds the parameters of another checkpoint that patched queries use.

        Raises:
          UserError: the memory of a device does not suffice, however few images pass through the network at once.
        """
        order = np.argsort(np.concatenate([rows for _, rows, _ in self._parts]))
        found: dict[str, list[np.ndarray]] = {name: [] for name in ELICITED}
        for spec, rows, batches in self._parts:
            measured = [self._measure(spec, params, patch, one) for one in batches]
            for name, parts in found.items():
                parts.append(np.concatenate([one[name] for one in measured], axis=1)[:, : rows.size])
        return {name: np.concatenate(parts, axis=1)[:, order] for name, parts in found.items()}

    def _measure(self, spec: EvalSpec, params: RunGroups, patch: RunGroups, queries: RunGroups) -> dict[str, Any]:
        """Ask a batch of queries, with fewer images at once where memory does not suffice."""

        def measure(at_once: int) -> dict[str, Any]:
            part = dataclasses.replace(spec, at_once=at_once)
            return _measure(self._runner, part, params, patch, queries, self._probe.params)

        return self._portion(measure)


def _batches(spec: EvalSpec, queries: RunGroups, rows: np.ndarray) -> list[RunGroups]:
    """Cut some queries [r, q, ...] into batches of equal length, so that one program serves all.

    The last batch is padded.
    """
    size, total = spec.shape[0], rows.size
    cuts = [rows[np.arange(start, start + size) % total] for start in range(0, total, size)]
    return [[jax.tree.map(lambda leaf, r=cut: leaf[:, r], group) for group in queries] for cut in cuts]


def _measure(
    runner: Engine, spec: EvalSpec, params: RunGroups, patch: RunGroups, queries: RunGroups, probe_params: dict
) -> dict[str, Any]:
    """Ask a batch of queries and return the arrays of the reading."""
    prompts = runner.call(prepare, spec, params, patch, runner.settings, queries)
    images = runner.call(sampling.draw, spec, params, prompts)
    reading = runner.call(read, spec, params, images, shared=(probe_params,))
    return vars(runner.fetch(reading))

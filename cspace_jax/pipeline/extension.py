"""An extension adds missing runs, and more steps, to the study of a workdir.

A study trains the product of its axes. What is missing of a larger product is cut into products again: each is a study
of its own in a folder of the workdir, with the same probe, and its runs are numbered after all earlier ones.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from cspace_jax import processes
from cspace_jax.config import Config, differences, from_config_dict, grid, later_steps, save_steps, to_dict
from cspace_jax.config.protocol_names import PATCH
from cspace_jax.config.reading import fail
from cspace_jax.errors import UserError
from cspace_jax.pipeline import waves
from cspace_jax.storage import batteries, checkpoint, extensions
from cspace_jax.storage import workdir as workdirs
from cspace_jax.storage.extensions import Extensions
from cspace_jax.storage.files import PathLike
from cspace_jax.storage.workdir import Workdir
from cspace_jax.studies import loading
from cspace_jax.text import counted


def grown(path: PathLike) -> Config:
    """Return the configuration of a workdir with all that was added.

    It has all values of the axes and all of the steps.

    Raises:
      UserError: there is no such workdir, or a file of it is damaged.
    """
    folder, made = workdirs.load(path)
    added = extensions.read(folder)
    return dataclasses.replace(extensions.lengthened(made, added), grid=grid.union([made.grid, *added.grids]))


def wanted(path: PathLike, axes: Mapping[str, Any], steps: int = 0) -> Config:
    """Return the configuration of a workdir with other values of some axes, and more steps.

    `steps` = 0 leaves the steps as they are.

    Raises:
      UserError: there is no such workdir or axis, or a value is not allowed.
    """
    fields = to_dict(grown(path))
    for name, values in axes.items():
        if name not in grid.AXES:
            fail(name, values, f"must be an axis of the grid ({', '.join(grid.AXES)}), or steps")
    fields["grid"] |= axes
    fields["optim"]["steps"] = steps or fields["optim"]["steps"]
    return from_config_dict(fields)


def request(folder: Workdir, made: Config, asked: Config) -> tuple[Config, Extensions]:
    """Return the configuration that the workdir keeps, and its extensions once the request is carried out.

    Args:
      folder: of the study.
      made: the configuration that it was made with.
      asked: what is wanted: its grid is the product of which missing runs are added; none if it is that of `grown`.

    Raises:
      UserError: what is asked for is another study, one line with the command that trains it in a new workdir.
    """
    added = extensions.read(folder)
    now = extensions.lengthened(made, added)
    kept = extensions.with_steps_of(dataclasses.replace(asked, grid=made.grid), made)
    for one in differences(made, kept):
        if one.affects_results:
            fail(one.field, one.second, f"all runs of a workdir share it, here {one.first}; {_elsewhere(asked, made)}")
    there = [made.grid, *added.grids]
    named = asked.grid != grid.union(there)  # else no axis was given a value, and holes of the product stay holes
    grids = (*added.grids, *(grid.missing(asked.grid, there) if named else ()))
    steps = asked.optim.steps
    if steps in (made.optim.steps, now.optim.steps):
        _require_same_saves(asked, (made, now))
        return kept, dataclasses.replace(added, grids=grids)
    _check_steps(folder, made, now, asked)
    return kept, Extensions(grids, steps, _saves(now, asked, made))


def _elsewhere(asked: Config, made: Config) -> str:
    """Return in words the command that trains a configuration in a new workdir."""
    return f"in a new workdir: {loading.command_of(asked, made)}"


def _require_same_saves(asked: Config, known: Sequence[Config]) -> None:
    """Raise UserError if other saved steps are asked for than the known ones."""
    if asked.save.steps not in [one.save.steps for one in known]:
        fail("save.steps", asked.save.steps, f"all runs of a workdir share it; {_elsewhere(asked, known[0])}")


def _saves(now: Config, asked: Config, made: Config) -> tuple[int, ...]:
    """Return all saved steps of a longer training: the present ones, then the requested or default later ones."""
    saved = save_steps(now.save, now.optim.steps)
    if asked.save.steps in (made.save.steps, now.save.steps):
        return (*saved, *later_steps(saved, asked.optim.steps))
    if (
        asked.save.steps[: len(saved)] != saved
        or min((*asked.save.steps[len(saved) :], asked.optim.steps)) <= saved[-1]
    ):
        fail("save.steps", asked.save.steps, f"must begin with the {len(saved)} saved steps that are there: {saved}")
    return asked.save.steps


def _check_steps(folder: Workdir, made: Config, now: Config, asked: Config) -> None:
    """Raise UserError unless the training can go on from its last state to the requested steps."""
    steps, last = asked.optim.steps, now.optim.steps
    if steps < last:
        fail("optim.steps", steps, f"must be at least the {last} steps that are trained")
    if now.optim.decay != "constant":
        fail("optim.steps", steps, f"the learning rate falls to 0 over {last} steps (optim.decay = {now.optim.decay}), "
             f"so that a longer training differs from its first step on; {_elsewhere(asked, made)}")  # fmt: skip
    parts = [(folder, now)] + [
        (folder.extension(i), dataclasses.replace(now, grid=one)) for i, one in enumerate(extensions.read(folder).grids)
    ]
    found = [(wave, config) for part, config in parts for wave in waves.load(part, config)]
    for part, _ in parts:
        _refuse_patching(part, steps)
    _require_states(found, steps, f"there is nothing to go on from; {_elsewhere(asked, made)}")


def _require_states(found: Sequence[tuple[waves.Wave, Config]], steps: int, otherwise: str) -> None:
    """Raise UserError unless each wave can go on from a state.

    A wave that has not come to its first state is fine too.
    """
    for wave, config in found:
        if wave.is_trained(config) and checkpoint.latest_step(wave.state_folder) != config.optim.steps:
            state = wave.state_folder / str(config.optim.steps)
            fail("optim.steps", steps, f"the last state {state} was removed, {otherwise}")
    for wave, _ in found if processes.is_first() else ():  # last, as it reads all of the states
        stored = sorted(checkpoint.steps(wave.state_folder), reverse=True)  # damaged ones are put aside in this order
        if stored and not any(checkpoint.is_intact(wave.state_folder, step) for step in stored):
            fail("optim.steps", steps, f"the last state {wave.state_folder / str(stored[0])} is damaged, {otherwise}")


def _refuse_patching(folder: Workdir, steps: int) -> None:
    """Raise UserError if answers were taken with the projections of the last save, which would change."""
    for root in folder.batteries():
        if any(PATCH in re.split("[+_]", name) for name in batteries.description(root)["protocols"]):
            fail("optim.steps", steps, f"the answers in {root} use the last save (elicit.patch_step), "
                 "which would no longer be the last; remove the folder, and ask again afterwards")  # fmt: skip


def parts_of(config: Config, workdir: Workdir) -> list[tuple[Config, Workdir]]:
    """Return the configuration and the folder of every added grid, in the order of addition.

    Args:
      config: of the study, with the steps that were added.
      workdir: of the study.

    Raises:
      UserError: the record of the extensions is damaged or gone.
    """
    grids = extensions.read(workdir).grids
    return [(dataclasses.replace(config, grid=one), workdir.extension(i)) for i, one in enumerate(grids)]


def describe(before: Extensions, after: Extensions) -> str:
    """Return in words the runs and steps that a request adds."""
    runs = sum(one.num_runs for one in after.grids[len(before.grids) :])
    parts = [counted(runs, "run")] if runs else []
    parts += [f"steps up to {after.steps:,}"] if after.steps != before.steps else []
    return f"adds {' and '.join(parts)}" if parts else "adds nothing new"


def require_finished(workdir: Workdir, config: Config) -> None:
    """Raise UserError if an addition is not trained to its end.

    Args:
      workdir: of the study.
      config: of the study, with the steps that were added.
    """
    parts = parts_of(config, workdir)
    parts += [(config, workdir)] if extensions.read(workdir).steps else []
    if all(wave.is_trained(one) for one, folder in parts for wave in waves.load(folder, one)):
        return
    raise UserError(
        f"workdir = {str(workdir.root)!r}: what was added is not trained to its end; --mode=extend --workdir="
        f"{workdir.root} goes on with it"
    )

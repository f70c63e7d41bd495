"""An extension adds runs or steps to a finished study.

Each grid of further runs has a folder of its own; more steps are for all runs. `config.json` stays as the study was
made, so that its first command goes on to be its command.
"""

import dataclasses

from cspace_jax.config import Config, GridConfig, reading
from cspace_jax.errors import UserError
from cspace_jax.storage import checked_json
from cspace_jax.storage.files import quoted
from cspace_jax.storage.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class Extensions:
    """The runs and steps that were added to a study.

    Attributes:
      grids: of further runs, in the order in which they were added; none has a run of another.
      steps: that all runs are trained to; 0 = as the configuration says.
      saves: all saved steps of the longer training, those of the configuration first; () = as it says.
    """

    grids: tuple[GridConfig, ...] = ()
    steps: int = 0
    saves: tuple[int, ...] = ()


def read(workdir: Workdir) -> Extensions:
    """Return the extensions of a workdir's study. They are empty if nothing was added.

    Raises:
      UserError: the file is damaged, or it is gone though there are folders of added runs.
    """
    try:
        return reading.read(Extensions, checked_json.read(workdir.extensions), "extensions")
    except (FileNotFoundError, NotADirectoryError):
        if (folder := workdir.extension(0).root).exists():
            raise UserError(
                f"{quoted(workdir.extensions)} is gone, which says what the runs in {folder} are: restore it, or "
                f"remove {folder.parent} to go on without them"
            ) from None
        return Extensions()
    except (OSError, ValueError, UserError) as error:
        raise UserError(f"{quoted(workdir.extensions)} is damaged ({error}): restore it") from error


def write(workdir: Workdir, added: Extensions) -> None:
    """Write the extensions of a workdir's study, atomically.

    Raises:
      UserError: the file cannot be written.
    """
    checked_json.write(workdir.extensions, reading.plain(added))


def lengthened(config: Config, added: Extensions) -> Config:
    """Return the configuration of a study with the steps that were added."""
    if not added.steps:
        return config
    optim = dataclasses.replace(config.optim, steps=added.steps)
    return dataclasses.replace(config, optim=optim, save=dataclasses.replace(config.save, steps=added.saves))


def as_made(config: Config, made: Config, added: Extensions) -> Config:
    """Return a configuration with added steps as the workdir was made, without them.

    A configuration that does not have the added steps stays as it is.
    """
    if not added.steps or (config.optim.steps, config.save.steps) != (added.steps, added.saves):
        return config
    return with_steps_of(config, made)


def with_steps_of(config: Config, made: Config) -> Config:
    """Return `config` with the training steps and the saved steps of `made`."""
    optim = dataclasses.replace(config.optim, steps=made.optim.steps)
    return dataclasses.replace(config, optim=optim, save=dataclasses.replace(config.save, steps=made.save.steps))

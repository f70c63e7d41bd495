"""The front door that the command, notebooks and experiments call.

Its names are public as `cspace_jax.NAME`.
"""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any, overload

from cspace_jax import startup
from cspace_jax.config import Config
from cspace_jax.config.reading import fail
from cspace_jax.cost import autotune
from cspace_jax.cost import preview as forecast
from cspace_jax.evaluation import protocols
from cspace_jax.pipeline import image_source, joined_studies, log_writers, preparation, stages
from cspace_jax.pipeline.export import ExportRequest
from cspace_jax.pipeline.joined_studies import Studies
from cspace_jax.pipeline.modes import MODES
from cspace_jax.pipeline.replay import ReplayRequest
from cspace_jax.pipeline.study import Study
from cspace_jax.storage import lock
from cspace_jax.storage import workdir as workdirs
from cspace_jax.storage.files import PathLike
from cspace_jax.studies import loading


def load_config(name: str | os.PathLike[str], **overrides: Any) -> Config:
    """Return the checked configuration of a study.

        cs.load_config("signal:quick", seeds=(0, 1, 2), sep_col=(0.2, 0.8))
        cs.load_config("my_study.py:paper", **{"optim.steps": 4000})

    Args:
      name: a study of the package or the path of a config file, with ":SCALE" or without; without, `quick` on a CPU and
        `paper` on an accelerator.
      **overrides: fields and their values; axes of the grid, and names that only one field has, need no group.

    Raises:
      UserError: there is no such study, scale or field, or a value is not allowed; one line that says what is.
    """
    startup.set_up_jax()  # a study without a scale asks for the backend
    return loading.configure(name, overrides)


def _require_config(config: Any) -> None:
    """Raise UserError unless an argument is a configuration."""
    if not isinstance(config, Config):
        fail("config", config, "must be a Config, as cs.load_config returns it")


def preview(config: Config, compile_programs: bool = False) -> None:
    """Print how much computation, time, disk and memory a study will take. It trains and writes nothing.

    `compile_programs` asks the compiler how much memory training needs, which takes minutes at paper scale on a CPU.

    Raises:
      UserError: the study cannot be carried out as it is configured.
    """
    _require_config(config)
    startup.set_up_jax()
    startup.start_backend()
    image_source.refuse_ignored(config)
    source = image_source.open_for_plan(config)
    config = dataclasses.replace(config, elicit=protocols.expand(config.elicit, source.classes.active))
    preparation.check_names(config)
    with startup.compiling(config.scale):
        forecast.show(config, autotune.resolve(config, may_measure=False), compile_programs)


def run(
    config: Config | None,
    workdir: PathLike,
    mode: str = "all",
    *,
    command_line: str | Sequence[str] = "",
    scale_chosen: bool = False,
    replay: ReplayRequest | None = None,
    outdir: PathLike | None = None,
    verbose: bool = False,
    export: ExportRequest | None = None,
    log: str | None = None,
) -> Study:
    """Carry out a study in a workdir and return it.

    What is done already is not done again.

    Args:
      config: the study; None = the one that the workdir holds (not for "train" and "all").
      workdir: path of its folder, made if it does not exist. An interrupted study goes on from its last checkpoints, a
        finished one only draws its figures again.
      mode: "train", "eval" (read concept space at the checkpoints), "elicit" (ask finished checkpoints with the
        protocols of `elicit.protocols`), "replay" (train steps between the saves again and evaluate them), "figures"
        (draw again from stored results), "report" (write the page report.html from them), "export" (write them as a
        dataset, or weights), "extend" (add the runs of the configuration's grid that are missing, and its steps) or
        "all".
      command_line: kept in env.json.
      scale_chosen: whether the scale was chosen by the device, which the first line then says.
      replay: the steps of the mode "replay"; `Study.replay` makes them.
      outdir: folder that the modes "figures" and "report" write to; it is no workdir and lies in none. Nothing is
        written in the workdir then, which may be read-only.
      verbose: whether figures that do not apply to the study are named, each with its reason.
      export: what the mode "export" writes, and where to; `Study.export` makes it.
      log: "tensorboard" or "wandb", to which losses, and of each save that is evaluated the coordinates, learning times
        and samples, are written as well, as soon as they are there.

    Raises:
      UserError: anything the user can put right, one line; nothing of another study is overwritten.
    """
    if config is not None or not MODES.get(mode, MODES["all"]).of_a_workdir:
        _require_config(config)
    startup.set_up_jax()
    startup.start_backend()
    preparation.check_arguments(mode, outdir, replay, export)
    log_writers.check(log, mode, workdir)
    scale = (config or workdirs.load(workdir)[1]).scale
    with startup.compiling(scale), lock.released_after():
        if mode == "replay":
            preparation.check_replay(workdir, replay or ReplayRequest())
        if mode == "extend":
            study = preparation.prepare_extension(config, workdir, command_line)
        elif config is None or MODES[mode].only_reads:
            study = preparation.reopen(workdir, mode, config)
        else:
            study = preparation.prepare(config, workdir, mode, command_line)
        stages.announce(study, mode, scale_chosen)
        with log_writers.logging(study, log) as logged:
            stages.carry_out(logged, mode, replay, stages.Output(outdir, verbose, export))
    return study


@overload
def open_study(workdir: PathLike) -> Study: ...


@overload
def open_study(workdir: list[Any] | tuple[Any, ...]) -> Studies: ...


def open_study(workdir: Any) -> Study | Studies:
    """Return the study of an existing workdir, or of several together. It writes and computes nothing.

        cs.open_study("runs/signal").dataset
        cs.open_study("runs/*").dataset  # one dataset, with a coordinate `study`

    Args:
      workdir: path of a workdir; a pattern, or a list of paths and patterns, gives `Studies`.

    Raises:
      UserError: there is no such workdir, or one is damaged.
    """
    if not isinstance(workdir, str | os.PathLike | list | tuple):
        fail("workdir", workdir, "must be a path, a pattern or a list of them")
    if isinstance(workdir, str | os.PathLike) and not joined_studies.is_several(workdir):
        return preparation.reopen(workdir, "figures")
    return joined_studies.open_several(workdir)

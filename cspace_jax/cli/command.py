"""The main command, from its flags to the call of the pipeline."""

import logging as python_logging
import sys
from collections.abc import Sequence
from functools import partial

from absl import app, flags, logging
from ml_collections import config_flags

from cspace_jax import startup, stopping
from cspace_jax.cli import arguments, scripts
from cspace_jax.cli import flags as command_line
from cspace_jax.cli.flags import FLAGS
from cspace_jax.config import from_config_dict
from cspace_jax.errors import UserError
from cspace_jax.pipeline.modes import LOGGED, MODES, OF_A_STUDY, SHOWS
from cspace_jax.storage.files import require_outside_all

flags.adopt_module_key_flags(command_line)
_STUDIES = tuple(name for name in MODES if name != "compare")
# Flags that only some modes know, and these modes.
_OF_MODES = {
    "workdirs": ("compare",),
    "config": _STUDIES,
    "workdir": _STUDIES,
    **dict.fromkeys(("steps", "around"), ("replay",)),
    **dict.fromkeys(("to", "weights"), ("export",)),
    "compile": ("plan",),
    "log": LOGGED,
    "outdir": (*SHOWS, "compare"),
    "verbose": tuple(name for name in OF_A_STUDY if name not in ("export", "report")),
}


def run(argv: Sequence[str]) -> None:
    """Carry out the command line.

    Raises:
      UserError: anything the user can put right.
    """
    if len(argv) > 1:
        raise UserError(f"command line: unexpected argument {argv[1]!r}; flags start with --")
    mode = FLAGS.mode
    _check_together(mode)
    if mode == "compare":
        return _compare()
    config = None if FLAGS.config is None else from_config_dict(FLAGS.config)
    if config is None and not MODES[mode].of_a_workdir:
        raise UserError(command_line.NO_CONFIG)
    if not FLAGS.workdir and mode != "plan":
        raise UserError(command_line.NO_WORKDIR)
    with stopping.waits():
        startup.set_up_jax(arguments.is_smoke(command_line.expanded(sys.argv)))
        from cspace_jax.pipeline import api  # here, because it takes seconds: mistakes are told before

    if mode == "plan" and config is not None:
        return api.preview(config, FLAGS.compile)
    request = (command_line.step_list(FLAGS.steps), FLAGS.around or "", FLAGS.width, FLAGS.count)
    chosen = config is not None and ":" not in config_flags.get_config_filename(FLAGS["config"])
    asked = api.ReplayRequest(*request) if mode == "replay" else None
    shown = {"outdir": FLAGS.outdir, "verbose": FLAGS.verbose, "log": FLAGS.log}
    if mode == "export":
        shown["export"] = api.ExportRequest(FLAGS.to or "", FLAGS.weights or "")
    api.run(config, FLAGS.workdir, mode, command_line=sys.argv, scale_chosen=chosen, replay=asked, **shown)


def _check_together(mode: str) -> None:
    """Raise UserError for a given flag that the mode does not know, and for --width or --count without --around."""
    for name, modes in _OF_MODES.items():
        if FLAGS[name].present and FLAGS[name].value and mode not in modes:
            given = name if name == "config" else f"{name} = {FLAGS[name].value!r}"
            raise UserError(f"{given}: only goes with --mode={', '.join(modes)}")
    for name in ("width", "count"):
        if FLAGS[name].present and not FLAGS.around:
            raise UserError(f"{name} = {FLAGS[name].value}: only goes with --around")


def _compare() -> None:
    """Show two studies side by side, and write the numbers and figures into a folder of their own."""
    workdirs = command_line.two_workdirs(FLAGS.workdirs)
    if FLAGS.outdir is not None:
        require_outside_all(FLAGS.outdir, "outdir")
    from cspace_jax.pipeline import compare  # here, because it takes seconds: mistakes are told before

    comparison = compare.compare(*workdirs)
    comparison.show()
    outdir = compare.default_outdir(comparison) if FLAGS.outdir is None else FLAGS.outdir
    print(f"{len(comparison.save(outdir))} files in {outdir}")


def start() -> None:
    """Parse the command line of this process and carry it out."""
    logging.set_verbosity(logging.WARNING)  # libraries report at INFO what is usual here
    # Where one write of a checkpoint fails, many do; the first is reported, the others would leave a traceback each.
    python_logging.getLogger("asyncio").setLevel(python_logging.CRITICAL)
    parse = partial(command_line.parse_flags, say=partial(print, flush=True))
    app.run(
        partial(scripts.exit_on_user_error, run),
        flags_parser=partial(scripts.exit_on_user_error, parse),
    )

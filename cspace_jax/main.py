"""Command line: train a grid of runs, read concept space at its checkpoints, draw the figures.

python -m cspace_jax.main --config=configs/signal.py --workdir=runs/signal
python -m cspace_jax.main --config=configs/signal.py:paper --workdir=runs/signal --config.grid.seeds="(0, 1)"
python -m cspace_jax.main --mode=figures --workdir=runs/signal
srun python -m cspace_jax.main --distributed --config=configs/signal.py:paper --workdir=/shared/signal
python -m cspace_jax.main --mode=elicit --workdir=runs/signal --config.elicit.protocols="('overprompt', 'latent')"
"""

import logging as python_logging
import pathlib
import sys
import traceback
from collections.abc import Sequence
from functools import partial
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

from cspace_jax import command, launch, processes
from cspace_jax.errors import UserError

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(processes)
MODES = ("plan", "train", "eval", "elicit", "figures", "all")
OF_A_WORKDIR = ("eval", "elicit", "figures")  # modes that need no --config

flags.DEFINE_string("workdir", None, "Folder of checkpoints, results and figures; an existing one is resumed.")
flags.DEFINE_string(
    "mode",
    "all",
    "plan: only say what computation, time and memory the study takes. "
    "train: only train. eval: read concept space at the checkpoints. elicit: ask the checkpoints with the protocols of "
    "elicit.protocols. figures: draw again from stored results. all: everything that is not done yet.",
)
config_flags.DEFINE_config_file(
    "config",
    None,
    "Study and scale, such as configs/signal.py:quick (scales: smoke, quick, paper; none: quick on a CPU, paper on an "
    "accelerator). Any field can be overridden: --config.optim.steps=4000. Not needed for an existing workdir with "
    "--mode=eval, --mode=elicit or --mode=figures.",
)


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Parse the command line; every mistake is one UserError instead of a traceback."""
    processes.start(argv)
    argv = _with_stored_config(argv)
    _check_config_arguments(argv)
    try:
        return FLAGS(list(argv))
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        text = " ".join(str(error).split())
        raise UserError(f"command line: {text}") from error


def _with_stored_config(argv: Sequence[str]) -> list[str]:
    """Let overrides without a --config change the configuration that the workdir holds."""
    overridden = any(argument.startswith(("--config.", "-config.")) for argument in argv)
    modes, folders = (_values(argv, name) for name in ("mode", "workdir"))
    if not overridden or _config_values(argv) or not folders or not set(modes) & set(OF_A_WORKDIR):
        return list(argv)
    stored = pathlib.Path(__file__).with_name("stored_config.py")
    return [argv[0], f"--config={stored}:{folders[-1]}", *argv[1:]]


def _config_values(argv: Sequence[str]) -> list[str]:
    return _values(argv, "config")


def _values(argv: Sequence[str], flag: str) -> list[str]:
    """Return the values given to a flag, "--flag=VALUE" or "--flag VALUE"."""
    values = []
    for argument, following in zip(argv, [*argv[1:], None], strict=True):
        name, equals, value = argument.partition("=")
        if name in (f"--{flag}", f"-{flag}") and (equals or following is not None):
            values.append(value if equals else str(following))
    return values


def _check_config_arguments(argv: Sequence[str]) -> None:
    # config_flags wraps what goes wrong inside a config file in a traceback, and names only the last part of an
    # unknown field; here both go wrong with their own message.
    for value in _config_values(argv):
        config = _load_config(*value.partition(":")[::2])
        for argument in argv:
            if argument.startswith(("--config.", "-config.")):
                _check_field(config, argument.partition("=")[0].partition(".")[2])


def _load_config(path: str, scale: str) -> Any:
    from cspace_jax import config_files

    try:
        module = config_files.load(path)
        if not hasattr(module, "get_config"):
            raise UserError(f"config = {path!r}: defines no function get_config")
        return module.get_config(scale) if scale else module.get_config()
    except UserError:
        raise
    except Exception as error:  # whatever the file does
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = "" if isinstance(error, SyntaxError) else f" ({last.filename}, line {last.lineno})"
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}{where}"
        raise UserError(f"config = {path!r}: cannot be used, {reason}") from error


def _check_field(config: Any, path: str) -> None:
    from cspace_jax import typed

    group = config
    for name in path.partition("[")[0].split("."):
        known = list(group.keys()) if hasattr(group, "keys") else []
        if name not in known:
            raise UserError(f"config.{path}: unknown field {name!r}{typed.closest(name, known)}")
        group = group[name]


def run(argv: Sequence[str]) -> None:
    """Carry out the command line.

    Raises:
      UserError: anything the user can put right.
    """
    from cspace_jax import pipeline, tuning, workdir
    from cspace_jax.config import from_config_dict

    if len(argv) > 1:
        raise UserError(f"command line: unexpected argument {argv[1]!r}; flags start with --")
    mode = FLAGS.mode
    if mode not in MODES:
        raise UserError(f"mode = {mode!r}: must be one of {', '.join(MODES)}")
    if mode == "plan" and FLAGS.config is not None:
        from cspace_jax import forecast

        return forecast.show(tuning.resolve(from_config_dict(FLAGS.config), may_measure=False))
    if not FLAGS.workdir and mode != "plan":
        raise UserError("workdir is not given: must be the path of a folder, for example --workdir=runs/signal")
    if FLAGS.config is None:
        if mode not in OF_A_WORKDIR:
            raise UserError("config is not given: for example --config=configs/signal.py")
        folder, config = workdir.load(FLAGS.workdir)
        pipeline.check(config, mode)
    else:
        config = from_config_dict(FLAGS.config)
        pipeline.check(config, mode)
        folder = processes.first_then_others(lambda: workdir.prepare(FLAGS.workdir, config, sys.argv))
    measured = config.engine.plan == "auto"
    config = tuning.resolve(config, may_measure=mode in ("train", "all"))
    if measured:
        pipeline.check(config, mode)
    chosen = not all(":" in value for value in _config_values(sys.argv))
    pipeline.announce(config, folder, mode, scale_chosen=chosen)
    pipeline.run(config, folder, mode)


def main() -> None:
    """Start the command line."""
    hurried = any(value.endswith(":smoke") for value in _config_values(sys.argv))
    if not hurried:
        launch.restart_with_allocator_settings()
    launch.set_up_jax(hurried)
    logging.set_verbosity(logging.WARNING)  # libraries report at INFO what is usual here
    # Where one write of a checkpoint fails, many do; the first is reported, the others would leave a traceback each.
    python_logging.getLogger("asyncio").setLevel(python_logging.CRITICAL)
    app.run(partial(command.exit_on_user_error, run), flags_parser=partial(command.exit_on_user_error, parse_flags))


if __name__ == "__main__":
    main()

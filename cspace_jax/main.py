"""Command line: train a grid of runs, read concept space at its checkpoints, draw the figures.

python -m cspace_jax.main --config=configs/signal.py --workdir=runs/signal
python -m cspace_jax.main --config=configs/signal.py:paper --workdir=runs/signal --config.grid.seeds="(0, 1)"
python -m cspace_jax.main --mode=figures --workdir=runs/signal
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

from cspace_jax import launch
from cspace_jax.errors import UserError

FLAGS = flags.FLAGS
MODES = ("train", "eval", "figures", "all")

flags.DEFINE_string("workdir", None, "Folder of checkpoints, results and figures; an existing one is resumed.")
flags.DEFINE_string(
    "mode",
    "all",
    "train: only train. eval: read concept space at the checkpoints. figures: draw again from stored results. "
    "all: everything that is not done yet.",
)
config_flags.DEFINE_config_file(
    "config",
    None,
    "Study and scale, such as configs/signal.py:quick (scales: smoke, quick, paper; none: quick on a CPU, paper on an "
    "accelerator). Any field can be overridden: --config.optim.steps=4000. Not needed for an existing workdir with "
    "--mode=eval or --mode=figures.",
)


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Parse the command line; every mistake is one UserError instead of a traceback."""
    _check_config_file(argv)
    try:
        return FLAGS(list(argv))
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        text = " ".join(str(error).split())
        raise UserError(f"command line: {text}") from error


def _check_config_file(argv: Sequence[str]) -> None:
    # config_flags wraps what goes wrong inside a config file in a traceback; here it goes wrong with its own message.
    from cspace_jax import config_files

    for value in (a.split("=", 1)[1] for a in argv if a.startswith(("--config=", "-config="))):
        path, _, scale = value.partition(":")
        module = config_files.load(path)
        if not hasattr(module, "get_config"):
            raise UserError(f"config = {path!r}: defines no function get_config")
        module.get_config(scale) if scale else module.get_config()


def run(argv: Sequence[str]) -> None:
    """Carry out the command line.

    Raises:
      UserError: anything the user can put right.
    """
    from cspace_jax import pipeline, workdir
    from cspace_jax.config import from_config_dict

    if len(argv) > 1:
        raise UserError(f"command line: unexpected argument {argv[1]!r}; flags start with --")
    mode = FLAGS.mode
    if mode not in MODES:
        raise UserError(f"mode = {mode!r}: must be one of {', '.join(MODES)}")
    if not FLAGS.workdir:
        raise UserError("workdir is not given: must be the path of a folder, for example --workdir=runs/signal")
    if FLAGS.config is None:
        if mode not in ("eval", "figures"):
            raise UserError("config is not given: for example --config=configs/signal.py")
        folder, config = workdir.load(FLAGS.workdir)
    else:
        config = from_config_dict(FLAGS.config)
        folder = workdir.prepare(FLAGS.workdir, config, sys.argv)
    pipeline.announce(config, folder, mode, scale_chosen=":" not in _config_argument())
    pipeline.run(config, folder, mode)


def _config_argument() -> str:
    values = [a.split("=", 1)[1] for a in sys.argv if a.startswith(("--config=", "-config="))]
    return values[-1] if values else ":"


def _exit_on_user_error(function: Callable[[Sequence[str]], Any], argv: Sequence[str]) -> Any:
    """Call a function; bad input prints one line on standard error and exits with code 2."""
    try:
        return function(argv)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        sys.exit(130)


def main() -> None:
    """Start the command line."""
    launch.restart_with_allocator_settings()
    launch.set_up_jax()
    logging.set_verbosity(logging.WARNING)  # libraries report at INFO what is usual here
    app.run(partial(_exit_on_user_error, run), flags_parser=partial(_exit_on_user_error, parse_flags))


if __name__ == "__main__":
    main()

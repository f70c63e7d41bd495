"""Command line: train a grid of runs, read concept space at its checkpoints, draw the figures.

python -m cspace_jax.main --config=configs/signal.py --workdir=runs/signal
python -m cspace_jax.main --config=configs/signal.py:paper --workdir=runs/signal --config.grid.seeds="(0, 1)"
python -m cspace_jax.main --mode=figures --workdir=runs/signal
srun python -m cspace_jax.main --distributed --config=configs/signal.py:paper --workdir=/shared/signal
python -m cspace_jax.main --mode=elicit --workdir=runs/signal --config.elicit.protocols="('overprompt', 'latent')"
python -m cspace_jax.main --mode=replay --workdir=runs/signal --around=turn --width=200 --count=20
"""

import logging as python_logging
import sys
from collections.abc import Sequence
from functools import partial

from absl import app, flags, logging

from cspace_jax import startup
from cspace_jax.cli import flags as command_line
from cspace_jax.cli import scripts
from cspace_jax.cli.flags import FLAGS, MODES, OF_A_WORKDIR
from cspace_jax.errors import UserError

flags.adopt_module_key_flags(command_line)


def run(argv: Sequence[str]) -> None:
    """Carry out the command line.

    Raises:
      UserError: anything the user can put right.
    """
    from cspace_jax.config import from_config_dict
    from cspace_jax.pipeline import api

    if len(argv) > 1:
        raise UserError(f"command line: unexpected argument {argv[1]!r}; flags start with --")
    mode = FLAGS.mode
    if mode not in MODES:
        raise UserError(f"mode = {mode!r}: must be one of {', '.join(MODES)}")
    config = None if FLAGS.config is None else from_config_dict(FLAGS.config)
    if mode == "plan" and config is not None:
        return api.preview(config, FLAGS.compile)
    if not FLAGS.workdir and mode != "plan":
        raise UserError("workdir is not given: must be the path of a folder, for example --workdir=runs/signal")
    if config is None and mode not in OF_A_WORKDIR:
        raise UserError("config is not given: for example --config=configs/signal.py")
    if mode != "replay" and (FLAGS.steps or FLAGS.around):
        raise UserError("steps and around: only go with --mode=replay")
    request = (command_line.step_list(FLAGS.steps), FLAGS.around or "", FLAGS.width, FLAGS.count)
    chosen = not all(":" in value for value in command_line.config_values(sys.argv))
    asked = api.Request(*request) if mode == "replay" else None
    api.run(config, FLAGS.workdir, mode, command_line=sys.argv, scale_chosen=chosen, replay=asked)


def main() -> None:
    """Start the command line."""
    hurried = command_line.is_smoke(sys.argv)
    if not hurried:
        startup.restart_with_allocator_settings()
    startup.set_up_jax(hurried)
    logging.set_verbosity(logging.WARNING)  # libraries report at INFO what is usual here
    # Where one write of a checkpoint fails, many do; the first is reported, the others would leave a traceback each.
    python_logging.getLogger("asyncio").setLevel(python_logging.CRITICAL)
    app.run(
        partial(scripts.exit_on_user_error, run),
        flags_parser=partial(scripts.exit_on_user_error, command_line.parse_flags),
    )


if __name__ == "__main__":
    main()

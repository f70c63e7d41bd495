"""The command line trains a grid of runs, reads concept space at its checkpoints and draws the figures.

cspace --config=signal --workdir=runs/signal
cspace --config=signal:paper --workdir=runs/signal --config.grid.seeds="(0, 1)"
cspace --mode=figures --workdir=runs/signal
srun cspace --distributed --config=signal:paper --workdir=/shared/signal
cspace --mode=elicit --workdir=runs/signal --config.elicit.protocols="('overprompt', 'latent')"
cspace --mode=compare --workdirs="('runs/a', 'runs/b')"
cspace --mode=extend --workdir=runs/signal --config.grid.seeds="(500, 600)"
cspace --mode=replay --workdir=runs/signal --around=turn --width=200 --count=20

What is imported here is light: help and mistakes are told before JAX is loaded.
"""

import sys
import warnings

from cspace_jax import startup, stopping
from cspace_jax.cli import arguments, streams
from cspace_jax.pipeline.modes import MODES


def main() -> None:
    """Start the command line: `cspace`, or `python -m cspace_jax.main`."""
    streams.outlive_readers()
    if any(option.split(":")[0] == "error" for option in sys.warnoptions):  # a warning of a library ends no study
        warnings.simplefilter("default")
    stopping.listen()
    try:
        _start()
    except stopping.Stopped as stopped:  # while its modules are imported
        print(stopped, file=sys.stderr)
        sys.exit(stopped.code)


def _start() -> None:
    """Print the help or the version, or parse the command line and carry it out."""
    if arguments.asks(sys.argv, (*arguments.HELP, *arguments.VERSION)):
        from cspace_jax.cli import overview

        print(overview.version() if arguments.asks(sys.argv, arguments.VERSION) else overview.screen())
        return
    modes = arguments.values(sys.argv, "mode") or ["all"]
    if modes[-1] in MODES and MODES[modes[-1]].computes and not arguments.is_smoke(sys.argv):
        startup.restart_with_allocator_settings()  # before the imports below, which would be paid twice
    with stopping.waits():
        from cspace_jax.cli import command
    command.start()


if __name__ == "__main__":
    main()

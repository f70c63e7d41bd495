"""How the grid of a study is cut into waves, and the record of a cut that was made for many processes.

Checkpoints and evaluations hold the runs of one wave each, so a cut holds for the life of a workdir: one process or
another number of them goes on with the waves that are there.
"""

import json

from cspace_jax import engine, processes
from cspace_jax.config import Config
from cspace_jax.errors import UserError
from cspace_jax.workdir import Workdir, write_atomic, writing


def waves(runs: int, size: int, count: int) -> list[slice]:
    """Cut `runs` runs among `count` processes, and each share into waves of at most `size` runs (0 = no limit)."""
    cuts = []
    for rows in (processes.share(range(runs), i, count) for i in range(count)):
        # Some of many processes may have no runs, and then no waves.
        cuts += [slice(rows[0] + part.start, rows[0] + part.stop) for part in engine.waves(len(rows), size)]
    return cuts


def record(workdir: Workdir, config: Config, count: int) -> None:
    """Cut the grid for `count` processes, unless the workdir already holds files of waves; one process leaves no file.

    Errors: UserError if the file cannot be written.
    """
    if any(folder.exists() for folder in (workdir.checkpoints, workdir.eval, workdir.root / "elicit")):
        return
    if count > 1:
        cuts = waves(config.grid.num_runs, config.engine.wave, count)
        write_atomic(workdir.waves, json.dumps([[one.start, one.stop] for one in cuts]) + "\n")
        return
    with writing(workdir.waves):
        workdir.waves.unlink(missing_ok=True)


def load(workdir: Workdir, config: Config) -> list[slice]:
    """Return the waves of a workdir, as rows of the grid in order.

    Errors: UserError if the record is damaged.
    """
    runs = config.grid.num_runs
    if not workdir.waves.exists():
        return engine.waves(runs, config.engine.wave)
    try:
        cuts = [slice(int(start), int(stop)) for start, stop in json.loads(workdir.waves.read_text())]
        rows = [row for one in cuts for row in range(one.start, one.stop)]
    except (OSError, ValueError, TypeError) as error:
        raise _damaged(workdir) from error
    if rows != list(range(runs)) or any(one.start >= one.stop for one in cuts):
        raise _damaged(workdir)
    return cuts


def _damaged(workdir: Workdir) -> UserError:
    return UserError(f"{str(workdir.waves)!r} is damaged: must hold [start, stop] of every wave; restore it")

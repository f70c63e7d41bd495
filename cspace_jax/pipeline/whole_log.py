"""The check whether the training log of a workdir is whole.

Lost lines cannot be made again, but must be reported.
"""

from typing import Any

from cspace_jax.pipeline.study import Study
from cspace_jax.pipeline.waves import Wave
from cspace_jax.storage import checkpoint
from cspace_jax.storage.metrics import damaged_lines, log_files, read_metrics
from cspace_jax.storage.workdir import LOG_EVERY, stored_json


def tell(study: Study) -> None:
    """Print a line for each damage of the training log and each loss at its end.

    A whole log prints nothing. Every step up to a state on the disk was logged before that state (training flushes the
    log first). Lines lie at most `optim.log_every` steps apart, the largest of all commands so far. So at least one of
    that many steps up to the state must be in the log.
    """
    files = log_files(study.workdir)
    for file in files:
        if damaged := damaged_lines(file):
            more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
            print(f"{file}: line {damaged[0]}{more} damaged; left out where the log is read", flush=True)
    logged: dict[Any, list[int]] = {}
    for row in (row for file in files for row in read_metrics(file)):
        logged.setdefault(row.get("run"), []).append(row.get("step", 0))
    for wave in study.waves:
        first, last = _must_be_logged(study, wave)
        lost = [run for run in wave.rows if last and not any(first <= step <= last for step in logged.get(run, ()))]
        if lost:
            print(f"{study.workdir.metrics}: lines of run {lost[0]} up to step {last} are lost", flush=True)


def _must_be_logged(study: Study, wave: Wave) -> tuple[int, int]:
    """Return the first and the last of the steps of which one must be logged.

    They are 0, 0 where none must, or nobody knows.
    """
    done = checkpoint.latest_step(wave.state_folder) or 0
    if done == study.config.optim.steps:
        return done, done
    env = stored_json(study.workdir.env)
    earlier = env["earlier"] if isinstance(env.get("earlier"), list) else []
    spacings = [one.get(LOG_EVERY) for one in (env, *earlier) if isinstance(one, dict)]
    known = [one for one in spacings if isinstance(one, int)]
    if len(known) < len(spacings) or max(known) > done:
        return 0, 0
    return done - max(known) + 1, done

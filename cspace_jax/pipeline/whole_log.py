"""Is the training log of a workdir whole? What is lost of it cannot be made again, but must be said."""

from cspace_jax.pipeline.study import Study
from cspace_jax.pipeline.waves import Wave
from cspace_jax.storage import checkpoint
from cspace_jax.storage.metrics import damaged_lines, log_files, read_metrics


def tell(study: Study) -> None:
    """Print what is damaged in the training log or missing at its end, a line each; nothing if it is whole.

    Every step up to a state on the disk was logged before that state (`training` flushes the log first), so the line of
    the last logging step before it must be there.
    """
    files = log_files(study.workdir)
    for file in files:
        if damaged := damaged_lines(file):
            more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
            print(f"{file}: line {damaged[0]}{more} damaged; left out where the log is read", flush=True)
    logged = {(row.get("run"), row.get("step")) for file in files for row in read_metrics(file)}
    for wave in study.waves:
        last = _last_logged(study, wave)
        if lost := [run for run in wave.rows if last and (run, last) not in logged]:
            print(
                f"{study.workdir.metrics}: the line of run {lost[0]} at step {last} is lost, and maybe more", flush=True
            )


def _last_logged(study: Study, wave: Wave) -> int:
    """Return the last step up to the state on the disk that is logged; 0 if there is none."""
    optim, done = study.config.optim, checkpoint.latest_step(wave.state_folder) or 0
    return done if done == optim.steps else done // optim.log_every * optim.log_every

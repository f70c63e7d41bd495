"""What the four runs of a study are called in a log, and evaluations that are logged."""

from cspace_jax.pipeline import log_results
from cspace_jax.storage.evaluations import write_npz

LABELS = [
    "run_00000 sep_col=0.2 seed=0", "run_00001 sep_col=0.2 seed=7", "run_00002 sep_col=0.8 seed=0",
    "run_00003 sep_col=0.8 seed=7",
]  # fmt: skip


def evaluate(logged, evaluations, *steps):
    """Write the evaluations of steps, and have them logged, as the stages do."""
    (wave,) = logged.waves
    for step in steps:
        write_npz(wave.eval_file(step), evaluations[step])
        log_results.take(logged, wave, step, evaluations[step])

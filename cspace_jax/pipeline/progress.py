"""The progress of a stage, the training log and the report of runs that diverge."""

import time
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from cspace_jax import processes, progress_bars
from cspace_jax.pipeline.study import Study
from cspace_jax.pipeline.waves import Wave
from cspace_jax.storage.metrics import append_metrics, read_metrics, sync, truncate_metrics
from cspace_jax.training.run import StepMetrics


class Recorder:
    """Write metrics.jsonl, show progress with ETA, and report each run that diverges once.

    Metrics are fetched one call late, so that the device never waits for the host.
    """

    def __init__(self, study: Study, wave: Wave, done: int):
        self._path, self._wave, self._optim = study.workdir.own_metrics, wave, study.config.optim
        self._more = study.log
        self._bar = progress(self._optim.steps, "train", "step", done)
        self._pending: tuple[int, list[StepMetrics]] | None = None
        self._diverged: set[int] = set()
        self._mark = (time.monotonic(), done)
        self._done, self._old_rows = done, True
        self.pace = Pace()

    def advance(self, step: int, metrics: list[StepMetrics]) -> None:
        """Take the metrics of the call that ended at `step`.

        Those of the call before are flushed (`flush`).

        Raises:
          UserError: the log cannot be written.
        """
        self.flush()
        self._pending = (step, metrics)

    def flush(self) -> None:
        """Show the progress of the metrics that were taken last, and log them if their step is logged.

        Raises:
          UserError: the log cannot be written.
        """
        if self._pending is None:
            return
        (step, metrics), self._pending = self._pending, None
        jax.block_until_ready(metrics)
        self.pace.ended(step)
        self._bar.update(step - self._bar.n)
        if step % self._optim.log_every == 0 or step == self._optim.steps:
            self._log(step, metrics)

    def sync(self) -> None:
        """Flush the metrics that were taken last (`flush`), and the log to the disk.

        Raises:
          UserError: the log cannot be written.
        """
        self.flush()
        sync(self._path)

    def _log(self, step: int, metrics: list[StepMetrics]) -> None:
        """Write the rows of a step, and show the rate and the loss."""
        fetched: StepMetrics = jax.tree.map(lambda *leaves: np.concatenate(leaves), *jax.device_get(metrics))
        now, (then, before) = time.monotonic(), self._mark
        rate = (step - before) / max(now - then, 1e-9)
        self._mark = (now, step)
        columns = vars(fetched)
        rows = [
            {"run": run, **setting, "step": step, **{k: v[i] for k, v in columns.items()}, "steps_per_second": rate}
            for i, (run, setting) in enumerate(zip(self._wave.rows, self._wave.settings, strict=True))
        ]
        if self._old_rows:  # they go when there are new ones
            truncate_metrics(self._path, self._done, self._wave.rows, then=rows)
            self._old_rows = False
        else:
            append_metrics(self._path, rows)
        self._more.metrics(rows)
        self._report_diverged(step, fetched)
        alive = fetched.diffusion[np.isfinite(fetched.loss)]
        loss = f"{alive.mean():.3f}" if alive.size else "nan"
        words = f"{rate * len(rows):.1f} run-steps/s, diffusion loss {loss} bits/dim"
        self._bar.set_postfix_str(words, refresh=False)  # shown with the next step

    def _report_diverged(self, step: int, metrics: StepMetrics) -> None:
        """Report each run whose loss is not finite, once."""
        for i in np.flatnonzero(~np.isfinite(metrics.loss)):
            run = self._wave.rows[i]
            if run not in self._diverged:
                self._diverged.add(run)
                self._bar.write(f"run {run} diverged (loss is not finite at step {step}); the other runs go on")

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is None:
            self.flush()
        self._bar.close()


def earlier_metrics(study: Study, wave: Wave, done: int) -> list[dict[str, Any]]:
    """Return the logged rows of a wave up to step `done`, sorted by step and run.

    Of rows that were logged twice the later counts.

    Raises:
      UserError: a log cannot be read.
    """
    paths = dict.fromkeys((study.workdir.metrics, study.workdir.own_metrics))
    rows = [row for path in paths for row in read_metrics(path)]
    of_wave = [row for row in rows if row.get("run") in wave.rows and row.get("step", 0) <= done]
    latest = {(row.get("step", 0), row["run"]): row for row in of_wave}
    return [latest[key] for key in sorted(latest)]


class Pace:
    """Measure the time of a training step from the ends of calls."""

    def __init__(self) -> None:
        self._last: tuple[float, int] | None = None  # when the last call ended, and at which step
        self._seconds = 0.0  # of a step of it; 0 = not known yet

    def ended(self, step: int) -> None:
        """Note that a call ended now, after `step`."""
        now = time.monotonic()
        if self._last is not None:
            then, before = self._last
            self._seconds = (now - then) / (step - before)
        self._last = (now, step)

    def steps_in(self, seconds: float) -> int:
        """Return how many steps fit into a time in seconds, at least 1.

        It is 1 as well while no call was measured.
        """
        return max(1, int(seconds / self._seconds)) if self._seconds else 1


def progress(total: int, label: str, unit: str, initial: int = 0, leave: bool = True) -> tqdm:
    """Return the progress bar of a stage.

    It shows the share of the first process. Other processes show none.
    """
    return progress_bars.bar(total, label, unit, initial=initial, leave=leave, silent=not processes.is_first())

"""The whole of a study, stage after stage: probe, training, evaluation, results, figures."""

import json
import time

import jax
import xarray as xr

from cspace_jax import estimate, probe, report, results, study
from cspace_jax.config import Config
from cspace_jax.plots import draw_all
from cspace_jax.study import minutes
from cspace_jax.workdir import Workdir, write_atomic


def announce(config: Config, workdir: Workdir, mode: str) -> None:
    """Say in one line what will be done, at which scale, on what, and how long it will take."""
    runs, steps = config.grid.num_runs, config.optim.steps
    devices = jax.local_devices()
    where = f"{len(devices)} x {devices[0].device_kind}"
    line = f"cspace_jax: study {config.study}, scale {config.scale}, {runs} runs x {steps:,} steps on {where}"
    if mode in ("train", "all"):
        seconds = estimate.estimate_seconds(config)
        line += f"; about {minutes(seconds)} if started afresh ({estimate.describe_plan(config)})"
    print(f"{line}; workdir {workdir.root}", flush=True)


def run(config: Config, workdir: Workdir, mode: str) -> None:
    """Carry out what `mode` asks for and is not done yet.

    Args:
      config: the study.
      workdir: prepared for it.
      mode: "train", "eval" (with the results written), "figures" (from stored results only) or "all".

    Raises:
      UserError: something that the user can put right.
    """
    times = _Times(workdir)
    if mode == "all":
        with times.measure("probe"):
            probe.load_or_train(config, workdir)  # first, so that an unfit probe costs no training
    if mode in ("train", "all"):
        with times.measure("train"):
            study.train(workdir, config)
    if mode in ("eval", "all"):
        with times.measure("evaluate"):
            study.evaluate(workdir, config)
        ds = _results(config, workdir)
        report.report(ds, workdir.root, wall_times=times.seconds)
    if mode in ("figures", "all"):
        ds = results.open_results(workdir.root)
        written = draw_all(ds, study.samples(workdir, config), config, workdir.figures, config.figures)
        print(f"{len(written)} files in {workdir.figures}")


def _results(config: Config, workdir: Workdir) -> xr.Dataset:
    _, _, info = probe.load_or_train(config, workdir)
    return study.collect(workdir, config, info["accuracy"])


class _Times:
    """Wall time spent per stage in seconds, added up over all starts of the command in a workdir."""

    def __init__(self, workdir: Workdir):
        self._path = workdir.root / "times.json"
        self.seconds: dict[str, float] = json.loads(self._path.read_text()) if self._path.exists() else {}

    def measure(self, stage: str) -> "_Stage":
        """Return a context manager that adds the time of its body to `stage`."""
        return _Stage(self, stage)

    def add(self, stage: str, seconds: float) -> None:
        """Add seconds to a stage and store the sums."""
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + seconds, 1)
        write_atomic(self._path, json.dumps(self.seconds))


class _Stage:
    def __init__(self, times: _Times, stage: str):
        self._times, self._stage = times, stage

    def __enter__(self) -> None:
        self._started = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._times.add(self._stage, time.monotonic() - self._started)

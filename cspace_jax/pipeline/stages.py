"""The whole of a study, stage after stage: probe, training, evaluation, results, figures."""

import contextlib
import json
import time

import jax
import xarray as xr

from cspace_jax import processes, startup
from cspace_jax.analysis import capability, report
from cspace_jax.config import Config
from cspace_jax.cost import memory
from cspace_jax.cost.time import describe_plan, estimate_seconds
from cspace_jax.errors import UserError
from cspace_jax.evaluation import probe as probe_network
from cspace_jax.pipeline import collect as collecting
from cspace_jax.pipeline import elicit, probe
from cspace_jax.pipeline.collect import samples
from cspace_jax.pipeline.evaluate import evaluate
from cspace_jax.pipeline.train import train
from cspace_jax.pipeline.waves import record_cut
from cspace_jax.plots import draw_all
from cspace_jax.storage import results
from cspace_jax.storage.files import write_atomic
from cspace_jax.storage.metrics import merge_metrics
from cspace_jax.storage.workdir import Workdir
from cspace_jax.text import minutes


def announce(config: Config, workdir: Workdir, mode: str, scale_chosen: bool) -> None:
    """Say in one line what will be done, at which scale, on what, and how long it will take.

    `scale_chosen` tells that the command line named no scale, so that the device decided.
    """
    if not processes.is_first():
        return
    runs, steps = config.grid.num_runs, config.optim.steps
    devices = jax.local_devices()
    reason = f" (chosen for a {jax.default_backend()})" if scale_chosen else ""
    parts = [f"study {config.study}", f"scale {config.scale}{reason}", f"{runs} runs x {steps:,} steps"]
    many = f"{jax.process_count()} processes with " if processes.are_many() else ""
    parts.append(f"{many}{len(devices)} x {devices[0].device_kind}")
    if mode in ("train", "all"):
        parts += [f"about {minutes(estimate_seconds(config))} if nothing is done yet"]
        parts += [describe_plan(config)]
    if startup.restarted():
        parts.append("restarted with glibc keeping its memory")
    print(f"cspace_jax: {', '.join(parts)}, workdir {workdir.root}", flush=True)


def check(config: Config, mode: str) -> None:
    """Raise UserError, before anything is written, for unusable protocols and for waves that do not fit in memory."""
    if mode in ("elicit", "train", "all"):
        elicit.check(config)
    if mode == "elicit" and not config.elicit.protocols:
        raise UserError("elicit.protocols is empty: for example --config.elicit.protocols=\"('overprompt', 'latent')\"")
    if mode in ("train", "all") and config.engine.plan != "auto":  # else it is checked when the plan is known
        memory.check(config)


def run(config: Config, workdir: Workdir, mode: str) -> None:
    """Carry out what `mode` asks for and is not done yet.

    Args:
      config: the study.
      workdir: prepared for it.
      mode: "train", "eval" (with the results written), "elicit" (the battery of protocols on finished checkpoints,
        added to the results), "figures" (from stored results only) or "all".

    Raises:
      UserError: something that the user can put right.
    """
    times = _Times(workdir)
    loaded = None
    if mode != "figures":
        with times.measure("probe"):  # first, so that an unfit probe costs no training
            loaded = processes.first_then_others(lambda: _begin(config, workdir, mode))
    if mode in ("train", "all"):
        with times.measure("train"):
            train(workdir, config)
    if loaded is not None and mode in ("eval", "elicit", "all"):
        spec, params, _ = loaded
        with times.measure("evaluate"):
            evaluate(workdir, config, spec, params)
        if config.elicit.protocols and mode in ("elicit", "all"):
            with times.measure("elicit"):
                elicit.evaluate(workdir, config, spec, params)
    processes.barrier()  # all files of all runs are there
    if processes.is_first():
        _finish(config, workdir, mode, loaded and loaded[2]["accuracy"], times)
    processes.barrier()  # no process leaves before the work is done


def _begin(config: Config, workdir: Workdir, mode: str) -> tuple[probe_network.ProbeSpec, dict, probe.Info]:
    """Return the probe; the first process trains it, and puts the rest of the workdir in order for all of them."""
    if processes.is_first():
        record_cut(workdir, config, jax.process_count())
        merge_metrics(workdir)  # of processes that were interrupted
    return probe.load_or_train(config, workdir, train=processes.is_first() and mode in ("train", "all"))


def _finish(config: Config, workdir: Workdir, mode: str, accuracy: dict[str, float] | None, times: "_Times") -> None:
    """Merge what the stages measured into results, report and figures."""
    merge_metrics(workdir)
    if mode in ("eval", "elicit", "all"):
        ds = collect(workdir, config, accuracy)
        report.report(ds, workdir.root, wall_times=times.seconds)
    if mode in ("figures", "elicit", "all"):
        ds = results.open_results(workdir.root)
        written = draw_all(ds, samples(workdir, config), config, workdir.figures, config.figures)
        print(f"{len(written)} files in {workdir.figures}")


def collect(workdir: Workdir, config: Config, probe_accuracy: dict[str, float] | None = None) -> xr.Dataset:
    """Merge all evaluations and all complete batteries into the labelled dataset; write it and return it.

    Raises:
      UserError: an evaluation is missing or damaged.
    """
    ds = collecting.collect(workdir, config, probe_accuracy)
    asked = elicit.load(workdir, config)
    if asked is not None:
        ds = capability.extend(ds, asked.raw, asked.names, asked.values)
    results.write_results(ds, workdir.root)
    return ds


class _Times:
    """Wall time spent per stage in seconds, added up over all starts of the command in a workdir."""

    def __init__(self, workdir: Workdir):
        self._path = workdir.root / "times.json"
        self.seconds = self._read()

    def _read(self) -> dict[str, float]:
        try:
            return {str(stage): float(seconds) for stage, seconds in json.loads(self._path.read_text()).items()}
        except (OSError, ValueError, AttributeError, TypeError):  # none yet, or damaged: only the sums start anew
            return {}

    def measure(self, stage: str) -> "_Stage":
        """Return a context manager that adds the time of its body to `stage`."""
        return _Stage(self, stage)

    def add(self, stage: str, seconds: float) -> None:
        """Add seconds to a stage and store the sums; of many processes, those of the first are kept."""
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + seconds, 1)
        if processes.is_first():
            write_atomic(self._path, json.dumps(self.seconds))


class _Stage:
    def __init__(self, times: _Times, stage: str):
        self._times, self._stage = times, stage

    def __enter__(self) -> None:
        self._started = time.monotonic()

    def __exit__(self, *error: object) -> None:
        # The error of the body is the one to report, not that its disk has no space for the time either.
        with contextlib.suppress(*((UserError,) if error[0] else ())):
            self._times.add(self._stage, time.monotonic() - self._started)

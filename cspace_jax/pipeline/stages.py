"""The stages of a study, one after another: probe, training, evaluation, elicitation, results, figures."""

import dataclasses
from collections.abc import Sequence

import jax
import xarray as xr

from cspace_jax import processes, startup
from cspace_jax.analysis import joining, learning, report, summary, turning_steps
from cspace_jax.config import ALL_FIGURES
from cspace_jax.cost import disk
from cspace_jax.cost.time import describe_plan, describe_time
from cspace_jax.pipeline import (
    collect,
    elicit,
    export,
    extension,
    log_results,
    page,
    planning,
    probe_levels,
    replay,
    waves,
    whole_log,
)
from cspace_jax.pipeline.evaluate import evaluate
from cspace_jax.pipeline.modes import MODES
from cspace_jax.pipeline.probe import Probe
from cspace_jax.pipeline.probe_cache import load_or_train
from cspace_jax.pipeline.replay import ReplayRequest
from cspace_jax.pipeline.study import Study
from cspace_jax.pipeline.times import Times
from cspace_jax.pipeline.train import train
from cspace_jax.storage import results
from cspace_jax.storage.files import PathLike, located, writing
from cspace_jax.storage.metrics import merge_metrics
from cspace_jax.text import counted


@dataclasses.dataclass(frozen=True)
class Output:
    """The place and the detail of a study's output.

    Attributes:
      folder: that figures are written to; None = that of the workdir.
      verbose: whether each figure that does not apply to the study is named, with its reason.
      exported: what "export" writes; None = the study, to a folder in the current one.
    """

    folder: PathLike | None = None
    verbose: bool = False
    exported: export.ExportRequest | None = None


def announce(study: Study, mode: str, scale_chosen: bool = False) -> None:
    """Print in one line the work ahead, its scale, the devices and the expected time.

    `scale_chosen` tells that the user named no scale, so that the device decided.
    """
    if not processes.is_first():
        return
    config = study.config
    runs, steps = study.first_runs[-1], config.optim.steps
    devices = jax.local_devices()
    reason = f" (chosen for a {jax.default_backend()})" if scale_chosen else ""
    parts = [f"study {config.study}", f"scale {config.scale}{reason}", f"{counted(runs, 'run')} x {steps:,} steps"]
    many = f"{jax.process_count()} processes with " if processes.are_many() else ""
    parts.append(f"{many}{len(devices)} x {devices[0].device_kind}")
    if MODES[mode].trains:
        grids = [part.config for part in study.parts]
        parts += [f"{describe_time(grids, study.plan)} if nothing is done yet (a guess; progress tells)"]
        parts += [describe_plan(config, study.plan), planning.describe(study), disk.describe(*grids)]
    if startup.restarted():
        parts.append("restarted with glibc keeping its memory")
    print(f"cspace_jax: {', '.join(parts)}, workdir {study.workdir.root}", flush=True)


def carry_out(study: Study, mode: str, request: ReplayRequest | None = None, output: Output = Output()) -> None:
    """Carry out the work of `mode` that is not done yet.

    Args:
      study: prepared.
      mode: "train", "eval" (with the results written), "elicit" (the battery of protocols on finished checkpoints,
        added to the results), "replay", "figures", "report" and "export" (from stored results only), "extend" (with
        what was added to the study) or "all".
      request: the steps of "replay".
      output: where figures go, and what is said of those that do not apply.

    Raises:
      UserError: something that the user can put right.
    """
    times = Times(study.workdir)
    probe, parts = None, _parts(study, mode)
    if not MODES[mode].only_reads:
        with times.measure("probe"):  # first, so that an unfit probe costs no training
            probe = processes.first_then_others(lambda: _begin(parts, mode))
    if MODES[mode].trains:
        log_results.tell(parts)
        with times.measure("train"):
            for part in parts:
                train(part, probe, again=mode == "train")
    elif study.log.writer is not None:
        for part in parts:
            for wave in part.own_waves:
                log_results.begin(part, wave, part.config.optim.steps)
    if probe is not None:
        _read(parts, mode, probe, request, times)
    processes.barrier()  # all files of all runs are there
    if processes.is_first():
        _finish(study, mode, probe, times, output)
    processes.barrier()  # no process leaves before the work is done


def _read(parts: Sequence[Study], mode: str, probe: Probe, request: ReplayRequest | None, times: Times) -> None:
    """Read concept space, ask the protocols and train steps again, as `mode` demands."""
    if MODES[mode].reads:
        with times.measure("evaluate"):
            for part in parts:
                evaluate(part, probe)
        if mode != "eval":
            _ask(parts, probe, times)
    if mode == "replay" and request is not None:
        with times.measure("replay"):
            for part in parts:
                replay.replay(part, probe, request)


def _ask(parts: Sequence[Study], probe: Probe, times: Times) -> None:
    """Ask the batteries of a study."""
    for battery in elicit.asked_of(parts):
        with times.measure("elicit"):
            for part in battery:
                elicit.ask(part, probe)


def _all_is_read(parts: Sequence[Study], mode: str) -> bool:
    """Return whether the probe has read everything that `mode` demands."""
    read = not any(wave.unread(part.steps) for part in parts for wave in part.waves)
    asked = [part for battery in elicit.asked_of(parts) for part in battery] if mode != "eval" else []
    return MODES[mode].reads and read and all(elicit.is_answered(part, elicit.folder(part)) for part in asked)


def _parts(study: Study, mode: str) -> list[Study]:
    """Return the parts of a study (`Study.parts`), each with a plan of its own.

    Raises:
      UserError: what was added is not trained to its end, and `mode` needs it.
    """
    if mode in ("eval", "elicit", "replay"):
        extension.require_finished(study.workdir, study.config)
    if mode == "figures":
        return [study]
    plans = [planning.resolve(one.config, one.workdir, MODES[mode].trains, mode == "replay") for one in study.parts[1:]]
    found = zip(study.parts[1:], plans, study.first_runs[1:], strict=False)
    return [study, *(dataclasses.replace(one, plan=plan, log=study.log.of_part(n)) for one, plan, n in found)]


def _begin(parts: Sequence[Study], mode: str) -> Probe:
    """Return the probe, which the first process trains.

    The first process also puts the rest of the workdir in order for all processes.
    """
    study = parts[0]
    for part in parts if processes.is_first() else ():
        with writing(part.workdir.root):
            part.workdir.root.mkdir(parents=True, exist_ok=True)
        waves.record(part.workdir, part.config, part.plan.wave, jax.process_count())
        whole_log.tell(part)
        merge_metrics(part.workdir)  # of processes that were interrupted
        collect.keep_examples(part)
    trains = processes.is_first() and MODES[mode].trains
    probe = load_or_train(study, train=trains, again=mode == "train", needed=not _all_is_read(parts, mode))
    if trains and probe.params:
        probe_levels.check(study, probe)
    return probe


def _finish(study: Study, mode: str, probe: Probe | None, times: Times, output: Output) -> None:
    """Merge the measurements of the stages into results, report and figures."""
    if not MODES[mode].only_reads:
        for part in study.parts:
            merge_metrics(part.workdir)
    found, ds = None, None
    if MODES[mode].reads:
        ds = _write_results(study, probe)
        found = summary.summarise(ds, wall_times=times.seconds)
        report.report(found, study.workdir)
    if mode == "replay":
        _write_added(study)
    if MODES[mode].draws:
        draw(study, output, ds)
    if mode == "export":
        print(export.export(study, output.exported))
    if mode == "report" or (MODES[mode].draws and study.config.figures):
        print(f"the study as a page: {page.write(study, output.folder, found)}")


def _write_results(study: Study, probe: Probe | None) -> xr.Dataset:
    """Write the results of all runs into the workdir and return them.

    Those of each added grid are also written into its own folder.
    """
    found = [collect.collect(part, probe) for part in study.parts]
    for part, ds in zip(study.parts[1:], found[1:], strict=True):
        results.write_results(ds, part.workdir)
    merged = joining.stack(found) if len(found) > 1 else found[0]
    results.write_results(merged, study.workdir)
    return merged


def _write_added(study: Study) -> None:
    """Write the results of added steps."""
    ds = collect.added(study)
    if ds is None:
        print("no steps were added")
        return
    results.write_added(ds, study.workdir)
    print(f"{int((ds['exact'].notnull()).sum())} steps of {ds.sizes['run']} runs are in {study.workdir.added_table}")
    report.print_turns(turning_steps.turns(study.dataset, ds))


def draw(study: Study, output: Output = Output(), ds: xr.Dataset | None = None) -> None:
    """Draw the study's figures from its results, into its workdir or another folder.

    Args:
      study: whose figures are drawn.
      output: where they go.
      ds: the results, if they were just written; None = those of the workdir.

    Raises:
      UserError: there are no results, or they are damaged.
    """
    from cspace_jax.plots.figures import Inputs, draw_all  # Matplotlib is loaded where something is drawn

    ds = results.open_results(study.workdir.root) if ds is None else ds
    ds = learning.with_definition(ds, study.config.learned)
    data, samples = study.config.data, collect.Samples(study, ds)
    if ALL_FIGURES in study.config.figures and study.config.evaluate.keep_samples and samples.missing:
        print(f"figures: those of sample images are left out, {samples.missing}")
    inputs = Inputs(ds, samples, data, collect.examples(study))
    folder = study.workdir.figures if output.folder is None else located(output.folder, "outdir")
    written = draw_all(inputs, folder, study.config.figures, verbose=output.verbose)
    print(f"{len(written)} files in {folder}")

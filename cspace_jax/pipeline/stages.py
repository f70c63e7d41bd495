"""The whole of a study, stage after stage: probe, training, evaluation, elicitation, results, figures."""

import dataclasses
import os
from collections.abc import Sequence

import jax
import xarray as xr

from cspace_jax import processes, startup
from cspace_jax.analysis import joining, report, summary, zoom
from cspace_jax.config import ALL_FIGURES, Config, reading
from cspace_jax.cost import disk
from cspace_jax.cost.time import describe_plan, describe_time
from cspace_jax.errors import UserError
from cspace_jax.evaluation import protocols
from cspace_jax.pipeline import (
    collect,
    elicit,
    export,
    extension,
    opening,
    page,
    planning,
    probe_levels,
    replay,
    waves,
    whole_log,
)
from cspace_jax.pipeline.evaluate import evaluate
from cspace_jax.pipeline.modes import MODES, OF_A_STUDY, SHOWS
from cspace_jax.pipeline.probe import Probe, load_or_train
from cspace_jax.pipeline.replay import Request
from cspace_jax.pipeline.study import Study
from cspace_jax.pipeline.times import Times
from cspace_jax.pipeline.train import earlier_metrics, train
from cspace_jax.storage import extensions, results, workdir
from cspace_jax.storage.extensions import Extensions
from cspace_jax.storage.files import PathLike, located, writing
from cspace_jax.storage.metrics import merge_metrics

_READS = ("eval", "elicit", "extend", "all")  # modes that write results
_DRAWS = ("figures", "elicit", "extend", "all")  # modes that draw figures


@dataclasses.dataclass(frozen=True)
class Output:
    """Where and how the results of a study are shown.

    Attributes:
      folder: that figures are written to; None = that of the workdir.
      verbose: whether each figure that does not apply to the study is named, with its reason.
      exported: what "export" writes; None = the study, to a folder in the current one.
    """

    folder: PathLike | None = None
    verbose: bool = False
    exported: export.Request | None = None


def prepare(config: Config, path: PathLike, mode: str, command_line: str | Sequence[str] = "") -> Study:
    """Check a study, enter its workdir and resolve its plan.

    Nothing is written before everything is checked that needs no measurement.

    Args:
      config: the study.
      path: its workdir, made if it does not exist.
      mode: one of `modes.OF_A_STUDY`.
      command_line: kept in env.json.

    Raises:
      UserError: the study cannot be carried out, or the workdir belongs to another.
    """
    startup.fix_numerics()
    config = _as_made(config, path)
    if not workdir.is_workdir(path):
        opening.refuse_ignored(config)
    source = opening.open_and_check(config)
    config = dataclasses.replace(config, elicit=protocols.expand(config.elicit, source.family.active))
    check(config, mode)
    found = workdir.find(path, config)
    workdir.require_same_numerics(found)
    opening.require_same(found, source)
    now, what = extensions.lengthened(config, extensions.read(found)), (_trains(mode), mode == "replay")
    known = config.engine.plan == "known"  # else it is measured, once the workdir is ours
    plan = planning.resolve(now, found, *what) if known else None
    folder = processes.first_then_others(lambda: workdir.prepare(path, config, command_line))
    if processes.is_first():
        opening.keep(folder, source)
    return Study(now, folder, plan or planning.resolve(now, folder, *what))


def _as_made(config: Config, path: PathLike) -> Config:
    """Return the configuration of an open study as its workdir keeps it: without the steps that were added."""
    if not workdir.is_workdir(path):
        return config
    folder, made = workdir.load(path)
    return extensions.as_made(config, made, extensions.read(folder))


def prepare_extension(asked: Config | None, path: PathLike, command_line: str | Sequence[str] = "") -> Study:
    """Check what is added to the study of a workdir, write it down, and prepare the study with it.

    Nothing is written before everything is checked.

    Args:
      asked: the study as it should become: its grid is a product of which missing runs are added, its steps are those
        that all runs are trained to; None = nothing is added, what was added before goes on.
      path: the workdir of a study that is trained and read.
      command_line: kept in env.json.

    Raises:
      UserError: the workdir is none, or what is asked for cannot be added.
    """
    folder, made = workdir.load(path)
    if asked is None:
        return prepare(made, path, "extend", command_line)
    processes.first_then_others(lambda: workdir.hold(folder))
    kept, added = extension.request(folder, made, asked)
    before = extensions.read(folder)
    _check_added(reopen(path, "eval"), dataclasses.replace(kept, grid=asked.grid), before, added)
    if processes.is_first():
        print(f"extend: {extension.describe(before, added)}", flush=True)
        if added != before:
            extensions.write(folder, added)
    processes.barrier()
    return prepare(kept, path, "extend", command_line)


def _check_added(study: Study, asked: Config, before: Extensions, added: Extensions) -> None:
    """Raise UserError, before it is written down, for what could not be trained, read or asked."""
    opening.require_same(study.workdir, opening.open_and_check(asked))
    check(asked, "all")
    new = [
        (dataclasses.replace(extensions.lengthened(asked, added), grid=one), study.workdir.extension(i))
        for i, one in enumerate(added.grids)
        if i >= len(before.grids)
    ]
    for config, folder in new:
        planning.resolve(config, folder, trains=True)
    if new or added.steps != before.steps:
        elicit.require_known(study)
    if new and processes.is_first():
        probe = load_or_train(study, train=False, tell=False)  # it is told when the work begins
        for config, _ in new:
            probe_levels.check(dataclasses.replace(study, config=config), probe)


def reopen(path: PathLike, mode: str, config: Config | None = None) -> Study:
    """Return the study of an existing workdir; writes nothing.

    Args:
      path: the workdir.
      mode: one of `modes.OF_A_STUDY`.
      config: the same study, perhaps with other figures; None = as the workdir holds it.

    Raises:
      UserError: there is no such workdir, it belongs to another study, or its study cannot be carried out.
    """
    startup.fix_numerics()
    folder, made = workdir.load(path)
    if not MODES[mode].only_reads:
        workdir.require_same_numerics(folder)
        processes.first_then_others(lambda: workdir.hold(folder))
    if config is not None:
        config = dataclasses.replace(_as_made(config, path), elicit=made.elicit)  # as it was asked for, with controls
        folder, made = workdir.find(path, config), config
    opening.reopen(folder, made, not MODES[mode].only_reads)
    check(made, mode)
    config = extensions.lengthened(made, extensions.read(folder))
    return Study(config, folder, planning.resolve(config, folder, _trains(mode), mode == "replay"))


def _trains(mode: str) -> bool:
    return mode in ("train", "extend", "all")


def check(config: Config, mode: str) -> None:
    """Raise UserError, before anything is written, for an unknown mode and unusable figures and protocols."""
    reading.one_of("mode", mode, OF_A_STUDY)
    if mode == "elicit" or _trains(mode):
        check_names(config)
    if mode == "elicit" and not config.elicit.protocols:
        raise UserError("elicit.protocols is empty: for example --config.elicit.protocols=\"('overprompt', 'latent')\"")


def check_outdir(mode: str, outdir: PathLike | None) -> None:
    """Raise UserError if another folder is asked for by a mode that writes into the workdir."""
    reading.one_of("mode", mode, OF_A_STUDY)
    if outdir is not None and mode not in SHOWS:
        reading.fail("outdir", os.fspath(outdir), f"only goes with --mode={', '.join(SHOWS)}")


def check_names(config: Config) -> None:
    """Raise UserError for figures that do not exist and for protocols that cannot be asked with."""
    if config.figures not in ((), (ALL_FIGURES,)):
        from cspace_jax.plots.figures import expand

        expand(config.figures)
    elicit.check(config)


def check_replay(path: PathLike, request: Request) -> None:
    """Raise UserError if the steps make no sense, or if the workdir was not trained on such a machine.

    To be called before the workdir is prepared, which records this machine.
    """
    folder, config = workdir.load(path)
    replay.check(extensions.lengthened(config, extensions.read(folder)), request)
    replay.require_same_machine(folder)


def announce(study: Study, mode: str, scale_chosen: bool = False) -> None:
    """Say in one line what will be done, at which scale, on what, and how long it will take.

    `scale_chosen` tells that the user named no scale, so that the device decided.
    """
    if not processes.is_first():
        return
    config = study.config
    runs, steps = study.first_runs[-1], config.optim.steps
    devices = jax.local_devices()
    reason = f" (chosen for a {jax.default_backend()})" if scale_chosen else ""
    parts = [f"study {config.study}", f"scale {config.scale}{reason}", f"{runs} runs x {steps:,} steps"]
    many = f"{jax.process_count()} processes with " if processes.are_many() else ""
    parts.append(f"{many}{len(devices)} x {devices[0].device_kind}")
    if _trains(mode):
        grids = [part.config for part in study.parts]
        parts += [f"{describe_time(study.plan, *grids)} if nothing is done yet (a guess; progress tells)"]
        parts += [describe_plan(config, study.plan), planning.describe(study), disk.describe(*grids)]
    if startup.restarted():
        parts.append("restarted with glibc keeping its memory")
    print(f"cspace_jax: {', '.join(parts)}, workdir {study.workdir.root}", flush=True)


def carry_out(study: Study, mode: str, request: Request | None = None, output: Output = Output()) -> None:
    """Carry out what `mode` asks for and is not done yet.

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
    if _trains(mode):
        with times.measure("train"):
            for part in parts:
                train(part, probe, again=mode == "train")
    elif study.log.writer is not None:
        for part in parts:
            for wave in part.own_waves:
                part.log.begin(wave.rows, earlier_metrics(part, wave, part.config.optim.steps))
    if probe is not None:
        _read(parts, mode, probe, request, times)
    processes.barrier()  # all files of all runs are there
    if processes.is_first():
        _finish(study, mode, probe, times, output)
    processes.barrier()  # no process leaves before the work is done


def _read(parts: Sequence[Study], mode: str, probe: Probe, request: Request | None, times: Times) -> None:
    """Read concept space at the checkpoints, ask the protocols and train steps again, as `mode` asks for."""
    if mode in _READS:
        with times.measure("evaluate"):
            for part in parts:
                evaluate(part, probe)
        if mode != "eval":
            _ask(parts, probe, times)
    if request is not None:
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
    """Return whether the probe has read all that `mode` asks for."""
    read = not any(wave.unread(part.steps) for part in parts for wave in part.waves)
    asked = [part for battery in elicit.asked_of(parts) for part in battery] if mode != "eval" else []
    return mode in _READS and read and all(elicit.is_answered(part, elicit.folder(part)) for part in asked)


def _parts(study: Study, mode: str) -> list[Study]:
    """Return the parts of a study (`Study.parts`), each with a plan of its own.

    Raises:
      UserError: what was added is not trained to its end, and `mode` needs it.
    """
    if mode in ("eval", "elicit", "replay"):
        extension.require_finished(study.workdir, study.config)
    if mode == "figures":
        return [study]
    plans = [planning.resolve(one.config, one.workdir, _trains(mode), mode == "replay") for one in study.parts[1:]]
    found = zip(study.parts[1:], plans, study.first_runs[1:], strict=False)
    return [study, *(dataclasses.replace(one, plan=plan, log=study.log.of_part(n)) for one, plan, n in found)]


def _begin(parts: Sequence[Study], mode: str) -> Probe:
    """Return the probe; the first process trains it, and puts the rest of the workdir in order for all of them."""
    study = parts[0]
    for part in parts if processes.is_first() else ():
        with writing(part.workdir.root):
            part.workdir.root.mkdir(parents=True, exist_ok=True)
        waves.record(part.workdir, part.config, part.plan.wave, jax.process_count())
        whole_log.tell(part)
        merge_metrics(part.workdir)  # of processes that were interrupted
        collect.keep_examples(part)
    trains = processes.is_first() and _trains(mode)
    probe = load_or_train(study, train=trains, again=mode == "train", needed=not _all_is_read(parts, mode))
    if trains and probe.params:
        probe_levels.check(study, probe)
    return probe


def _finish(study: Study, mode: str, probe: Probe | None, times: Times, output: Output) -> None:
    """Merge what the stages measured into results, report and figures."""
    if not MODES[mode].only_reads:
        for part in study.parts:
            merge_metrics(part.workdir)
    found, ds = None, None
    if mode in _READS:
        ds = _write_results(study, probe)
        found = summary.summarise(ds, wall_times=times.seconds)
        study.log.results(ds, collect.stored_samples(study, ds) if study.log.writer else {})
        report.report(found, study.workdir)
    if mode == "replay":
        _write_added(study)
    if mode in _DRAWS:
        draw(study, output, ds)
    if mode == "export":
        print(export.export(study, output.exported))
    if mode == "report" or (mode in _DRAWS and study.config.figures):
        print(f"the study as a page: {page.write(study, output.folder, found)}")


def _write_results(study: Study, probe: Probe | None) -> xr.Dataset:
    """Write the results of all runs into the workdir, and those of each added grid into its own folder; return all."""
    found = [collect.collect(part, probe) for part in study.parts]
    for part, ds in zip(study.parts[1:], found[1:], strict=True):
        results.write_results(ds, part.workdir)
    merged = joining.stack(found) if len(found) > 1 else found[0]
    results.write_results(merged, study.workdir)
    return merged


def _write_added(study: Study) -> None:
    ds = collect.added(study)
    if ds is None:
        print("no steps were added")
        return
    results.write_added(ds, study.workdir)
    print(f"{int((ds['exact'].notnull()).sum())} steps of {ds.sizes['run']} runs are in {study.workdir.added_table}")
    report.print_turns(zoom.turns(study.dataset, ds))


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
    data = study.config.data
    inputs = Inputs(ds, collect.samples(study, ds), data, collect.examples(study))
    folder = study.workdir.figures if output.folder is None else located(output.folder)
    written = draw_all(inputs, folder, study.config.figures, verbose=output.verbose)
    print(f"{len(written)} files in {folder}")

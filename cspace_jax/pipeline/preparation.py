"""Before the stages a study is checked, its workdir entered or reopened, and its plan resolved."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from cspace_jax import processes, startup
from cspace_jax.config import ALL_FIGURES, Config, reading
from cspace_jax.errors import UserError
from cspace_jax.evaluation import protocols
from cspace_jax.pipeline import elicit, extension, image_source, planning, probe_levels, replay, train
from cspace_jax.pipeline.modes import MODES, OF_A_STUDY, SHOWS
from cspace_jax.pipeline.probe_cache import load_or_train
from cspace_jax.pipeline.replay import ReplayRequest
from cspace_jax.pipeline.study import Study
from cspace_jax.storage import extensions, workdir
from cspace_jax.storage.extensions import Extensions
from cspace_jax.storage.files import PathLike, located, require_outside_all


def prepare(config: Config, path: PathLike, mode: str, command_line: str | Sequence[str] = "") -> Study:
    """Check a study, enter its workdir, resolve its plan and return it.

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
        image_source.refuse_ignored(config)
    source = image_source.open_and_check(config)
    config = dataclasses.replace(config, elicit=protocols.expand(config.elicit, source.classes.active))
    check(config, mode)
    found = workdir.find(path, config)
    workdir.require_same_numerics(found)
    image_source.require_same(found, source)
    now, what = extensions.lengthened(config, extensions.read(found)), (MODES[mode].trains, mode == "replay")
    known = config.engine.plan == "known"  # else it is measured, once the workdir is ours
    plan = planning.resolve(now, found, *what) if known else None
    folder = processes.first_then_others(lambda: workdir.prepare(path, config, command_line))
    if processes.is_first():
        image_source.keep(folder, source)
    return Study(now, folder, plan or planning.resolve(now, folder, *what))


def _as_made(config: Config, path: PathLike) -> Config:
    """Return the configuration of an open study as its workdir keeps it, without the added steps."""
    if not workdir.is_workdir(path):
        return config
    folder, made = workdir.load(path)
    return extensions.as_made(config, made, extensions.read(folder))


def prepare_extension(asked: Config | None, path: PathLike, command_line: str | Sequence[str] = "") -> Study:
    """Check an extension of a workdir's study, write it down, and return the prepared study with it.

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
    """Raise UserError for an extension that could not be trained, read or asked.

    To be called before the extension is written down.
    """
    image_source.require_same(study.workdir, image_source.open_and_check(asked))
    check(asked, "all")
    new = [
        (dataclasses.replace(extensions.lengthened(asked, added), grid=one), study.workdir.extension(i))
        for i, one in enumerate(added.grids)
        if i >= len(before.grids)
    ]
    for config, folder in new:
        planning.resolve(config, folder, trains=True)
    for part in study.parts:
        for wave in part.waves:
            train.require_files(part, wave)
    if new or added.steps != before.steps:
        elicit.require_known(study)
    if new and processes.is_first():
        probe = load_or_train(study, train=False, tell=False)  # it is told when the work begins
        for config, _ in new:
            probe_levels.check(dataclasses.replace(study, config=config), probe)


def reopen(path: PathLike, mode: str, config: Config | None = None) -> Study:
    """Return the study of an existing workdir. Nothing of the study is written.

    A mode that does not only read holds the workdir (`workdir.hold`).

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
    image_source.reopen(folder, made, not MODES[mode].only_reads)
    check(made, mode)
    config = extensions.lengthened(made, extensions.read(folder))
    return Study(config, folder, planning.resolve(config, folder, MODES[mode].trains, mode == "replay"))


def check(config: Config, mode: str) -> None:
    """Raise UserError for an unknown mode, and for figures and protocols that it cannot use.

    Figures and protocols are checked for "elicit" and for modes that train. To be called before anything is written.
    """
    reading.one_of("mode", mode, OF_A_STUDY)
    if mode == "elicit" or MODES[mode].trains:
        check_names(config)
    if mode == "elicit" and not config.elicit.protocols:
        raise UserError("elicit.protocols is empty: for example --config.elicit.protocols=\"('overprompt', 'latent')\"")


def check_arguments(mode: str, outdir: PathLike | None, replay: Any, export: Any) -> None:
    """Raise UserError if another folder or a request is given to a mode that does not take it.

    The other folder must not be a workdir, nor lie in one.
    """
    reading.one_of("mode", mode, OF_A_STUDY)
    for name, request in (("replay", replay), ("export", export)):
        if request is not None and mode != name:
            raise UserError(f"{name}: this request only goes with mode={name!r}, this is mode={mode!r}")
    if outdir is not None and mode not in SHOWS:
        reading.fail("outdir", os.fspath(outdir), f"only goes with --mode={', '.join(SHOWS)}")
    if outdir is not None:
        require_outside_all(outdir, "outdir")


def check_names(config: Config) -> None:
    """Raise UserError for unknown figures, unusable protocols and unusable cache folders."""
    if config.probe.cache_dir:
        located(config.probe.cache_dir, "probe.cache_dir")
    if "://" in config.data.cache_dir:
        reading.fail("data.cache_dir", config.data.cache_dir, "must be a folder on this machine")
    if config.figures not in ((), (ALL_FIGURES,)):
        from cspace_jax.plots.figures import expand

        expand(config.figures)
    elicit.check(config)


def check_replay(path: PathLike, request: ReplayRequest) -> None:
    """Raise UserError if the steps make no sense, or if another machine trained the workdir.

    To be called before the workdir is prepared, which records this machine.
    """
    folder, config = workdir.load(path)
    replay.check(extensions.lengthened(config, extensions.read(folder)), request)
    replay.require_same_machine(folder)

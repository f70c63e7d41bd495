"""The choice of a study's plan on this machine.

Waves are as large as memory allows. A begun workdir keeps its own.
"""

import dataclasses
from collections.abc import Sequence

import jax

from cspace_jax import processes
from cspace_jax.config import Config
from cspace_jax.config.plan import Plan
from cspace_jax.cost import autotune, fit
from cspace_jax.engine.placement import at_once
from cspace_jax.pipeline import waves
from cspace_jax.pipeline.study import Study
from cspace_jax.pipeline.waves import Wave
from cspace_jax.storage.workdir import Workdir


def resolve(config: Config, workdir: Workdir, trains: bool, again: bool = False) -> Plan:
    """Return the plan of a study.

    Where the study trains, memory is predicted to suffice for the plan's wave and microbatch. A workdir that was begun
    keeps its waves and the microbatch that was chosen for them; only waves that are not trained yet count.

    Args:
      config: the study.
      workdir: of the study, which need not exist.
      trains: whether runs will be trained; plans are measured (`engine.plan = "auto"`) only then.
      again: whether runs that were trained will be trained again, as they were.

    Raises:
      UserError: training is predicted not to fit, or no plan can be carried out.
    """
    plan = _known(config, workdir) or autotune.resolve(config, may_measure=trains)
    if not trains and not again:
        return plan
    if not waves.begun(workdir):
        return fit.require(config, plan, at_once(config.grid.num_runs, 0, jax.process_count()), config.engine.wave)
    own = processes.own(waves.load(workdir, config))
    left = [wave for wave in own if again or not wave.is_trained(config)]
    kept = _microbatches(plan, left or own)
    if not left:
        return _begun_with(config, plan, kept)
    most, source = max(len(wave.rows) for wave in left), f"waves of workdir {workdir.root}"
    if kept and not config.engine.microbatch:
        size = max(one or config.optim.batch_size for one in kept)
        pinned = dataclasses.replace(config, engine=dataclasses.replace(config.engine, microbatch=size))
        fit.require(pinned, dataclasses.replace(plan, microbatch=size), most, most, source)
        if len(kept) == len(left):
            return dataclasses.replace(_begun_with(config, plan, kept), wave=most)
    return fit.require(config, plan, most, most, source)


def _known(config: Config, workdir: Workdir) -> Plan | None:
    """Return the plan that measurements chose when the workdir was begun on such devices, or None."""
    if config.engine.plan != "auto" or not waves.begun(workdir):
        return None
    found = (wave.measured(config) for wave in waves.load(workdir, config))  # of all: processes must agree
    chosen = next(filter(None, found), None)
    return Plan.resolve(autotune.with_plan(config, chosen), jax.default_backend()) if chosen else None


def _microbatches(plan: Plan, of: Sequence[Wave]) -> list[int]:
    """Return the known microbatches that waves began with.

    (A CPU takes the microbatch of its cache, whatever an accelerator began with.)
    """
    return [] if plan.cache_bytes else [wave.microbatch for wave in of if wave.microbatch is not None]


def _begun_with(config: Config, plan: Plan, kept: list[int]) -> Plan:
    """Return a plan with the largest microbatch that waves began with, 0 = the whole batch.

    A microbatch of the user's stays.
    """
    if config.engine.microbatch or not kept:
        return plan
    return dataclasses.replace(plan, microbatch=0 if 0 in kept else max(kept))


def describe(study: Study) -> str:
    """Return in words how many runs this process trains at once, and the predicted memory."""
    config, plan = study.config, study.plan
    if waves.begun(study.workdir):
        own = processes.own(waves.load(study.workdir, config))
        return fit.describe(config, [(wave.plan_of(config, plan), len(wave.rows)) for wave in own])
    cuts = processes.own(waves.cut(config.grid.num_runs, plan.wave, jax.process_count()))
    return fit.describe(config, [(plan, cut.stop - cut.start) for cut in cuts])

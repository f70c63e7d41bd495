"""The grid of a study is cut into waves.

This module records the cut and tells where each wave keeps its files. Checkpoints and evaluations hold the runs of one
wave each, so a cut holds for the life of a workdir: one process or another number of them goes on with the waves that
are there.
"""

import dataclasses
import json
from collections.abc import Iterable
from typing import Any

import jax
from etils import epath

from cspace_jax import processes
from cspace_jax.config import Config, grid, save_steps
from cspace_jax.config.plan import Plan
from cspace_jax.cost import autotune
from cspace_jax.engine import schedule
from cspace_jax.engine.engine import Engine
from cspace_jax.errors import UserError
from cspace_jax.storage import checked_json, checkpoint
from cspace_jax.storage.file_names import KEPT_STATES, PARAMS, STATE
from cspace_jax.storage.files import not_its_fault, quoted, write_atomic, writing
from cspace_jax.storage.workdir import (
    MICROBATCH,
    PLAN,
    UNSAVED,
    Workdir,
    step_file,
    wave_name,
)  # fmt: skip
from cspace_jax.training.run import TrainSpec


class Wave:
    """The runs that are trained and evaluated at once, and their files.

    Args:
      workdir: of the study.
      config: the study.
      index: number of the wave.
      runs: its rows of the grid.
    """

    def __init__(self, workdir: Workdir, config: Config, index: int, runs: slice):
        self.rows = range(runs.start, runs.stop)
        self.settings = grid.grid_settings(config.grid)[runs]
        self.name = wave_name(index)
        checkpoints = workdir.checkpoints / self.name
        self.params_folder = checkpoints / PARAMS
        self.state_folder = checkpoints / STATE  # the last one, to resume from
        self.kept_folder = checkpoints / KEPT_STATES  # those of `save.keep_states`, never removed
        self.unsaved = checkpoints / UNSAVED  # there from the first save to the first state
        self.microbatch_file = checkpoints / MICROBATCH
        self.plan_file = checkpoints / PLAN
        self.eval_folder = workdir.eval / self.name

    def eval_file(self, step: int) -> epath.Path:
        """Return the file of the raw evaluation of a step."""
        return step_file(self.eval_folder, step)

    def unread(self, steps: Iterable[int]) -> list[int]:
        """Return those of `steps` that have no evaluation yet."""
        return [step for step in steps if not self.eval_file(step).exists()]

    def trained_steps(self, config: Config) -> int:
        """Return the step of the last state.

        Where the results of the training are there without a state, it is the last step of all. These results are an
        evaluation or the parameters of every save, and of the last step the parameters or all evaluations.
        """
        done = checkpoint.latest_step(self.state_folder) or 0
        last, saves = config.optim.steps, save_steps(config.save, config.optim.steps)
        unread = self.unread(saves)
        if not unread and saves[-1] == last:
            return last
        if done or self.unsaved.exists():
            return done
        stored = set(checkpoint.steps(self.params_folder))
        return last if not unread or {*unread, last} <= stored else 0

    def is_trained(self, config: Config) -> bool:
        """Return whether the wave was trained to the last step."""
        return self.trained_steps(config) == config.optim.steps

    @property
    def microbatch(self) -> int | None:
        """Return the microbatch that memory decided when training began.

        It is 0 for the whole batch, None if none is kept.

        Raises:
          UserError: its record is damaged.
        """
        if not self.microbatch_file.exists():
            return None
        try:
            found = json.loads(self.microbatch_file.read_text())["microbatch"]
        except (OSError, ValueError, TypeError, KeyError) as error:
            if why := not_its_fault(error):
                raise UserError(f"cannot read {quoted(self.microbatch_file)}: {why}") from error
            found = None
        if not isinstance(found, int) or found < 0:
            raise UserError(f"{quoted(self.microbatch_file)} is damaged: must hold the samples whose gradient is "
                            "computed at once; restore it or set engine.microbatch")  # fmt: skip
        return found

    def measured(self, config: Config) -> dict[str, Any]:
        """Return the fields that `engine.plan = "auto"` chose when the wave began on such devices.

        Fields that the user has set are left out. The result is empty where nothing was measured, as the plan is known
        or the devices are others.

        Raises:
          UserError: its record is damaged.
        """
        if config.engine.plan != "auto" or not self.plan_file.exists():
            return {}
        try:
            found = checked_json.read(self.plan_file)
            chosen, devices = {name: found["plan"][name] for name in autotune.CHOSEN}, found["devices"]
        except (OSError, ValueError, TypeError, KeyError) as error:
            if why := not_its_fault(error):
                raise UserError(f"cannot read {quoted(self.plan_file)}: {why}") from error
            raise UserError(f"{quoted(self.plan_file)} is damaged: must hold the plan that was measured; restore it "
                            "or set engine.plan=known") from error  # fmt: skip
        if devices != _devices():
            return {}
        return {name: value for name, value in chosen.items() if getattr(config.engine, name) in ("auto", 0)}

    def keep_plan(self, config: Config, plan: Plan, begins: bool = True) -> None:
        """Write the microbatch and the plan that memory and measurement decided.

        Another plan would round otherwise when the wave goes on. Of memory it is the microbatch, which the cache of a
        CPU, and the user, decide the same every time; of `engine.plan = "auto"` the way of executing, which is written
        down when training begins.

        Args:
          config: the study.
          plan: what was decided.
          begins: whether the wave begins with it, or goes on.

        Raises:
          UserError: a file cannot be written.
        """
        if not plan.cache_bytes and not config.engine.microbatch:
            write_atomic(self.microbatch_file, json.dumps({"microbatch": plan.microbatch}) + "\n")
        if config.engine.plan == "auto" and (begins or not self.plan_file.exists()):
            chosen = {name: getattr(plan, name) for name in autotune.CHOSEN}
            checked_json.write(self.plan_file, {"plan": chosen, "devices": _devices()})

    def plan_of(self, config: Config, plan: Plan) -> Plan:
        """Return how this wave executes: a plan with the measured fields and the microbatch that it began with.

        Raises:
          UserError: a record is damaged.
        """
        kept = None if config.engine.microbatch or plan.cache_bytes else self.microbatch
        begun = dataclasses.replace(plan, **self.measured(config))
        return begun if kept is None else dataclasses.replace(begun, microbatch=kept)

    def engine(self, config: Config, plan: Plan) -> Engine:
        """Return the engine that executes this wave.

        Raises:
          UserError: a record is damaged, or the plan asks for too many devices.
        """
        plan = self.plan_of(config, plan)
        return Engine(TrainSpec.from_config(config, plan), grid.stack(self.settings), plan)


def _devices() -> list[Any]:
    """Return the kind and the number of this process's devices, for JSON."""
    local = jax.local_devices()
    return [local[0].device_kind, len(local)]


def load(workdir: Workdir, config: Config) -> list[Wave]:
    """Return the waves of a workdir, in grid order.

    Raises:
      UserError: the record of a cut is damaged.
    """
    return [Wave(workdir, config, i, runs) for i, runs in enumerate(load_cut(workdir, config))]


def cut(runs: int, size: int, count: int) -> list[slice]:
    """Cut `runs` runs among `count` processes, and each share into waves.

    A wave has at most `size` runs (0 = no limit).
    """
    cuts = []
    for rows in (processes.share(range(runs), i, count) for i in range(count)):
        # Some of many processes may have no runs, and then no waves.
        cuts += [slice(rows[0] + part.start, rows[0] + part.stop) for part in schedule.waves(len(rows), size)]
    return cuts


def begun(workdir: Workdir) -> bool:
    """Return whether the workdir already holds files of waves. Its cut stays as it is then."""
    return any(folder.exists() for folder in (workdir.checkpoints, workdir.eval, workdir.elicit))


def record(workdir: Workdir, config: Config, wave: int, count: int) -> None:
    """Cut the grid for `count` processes, unless the workdir already holds files of waves.

    The cut of one process that follows from the configuration alone leaves no file.

    Raises:
      UserError: the file cannot be written.
    """
    if begun(workdir):
        return
    if count > 1 or wave != config.engine.wave:
        cuts = cut(config.grid.num_runs, wave, count)
        write_atomic(workdir.waves, json.dumps([[one.start, one.stop] for one in cuts]) + "\n")
        return
    with writing(workdir.waves):
        workdir.waves.unlink(missing_ok=True)


def load_cut(workdir: Workdir, config: Config) -> list[slice]:
    """Return the waves of a workdir as rows of the grid, in order.

    Raises:
      UserError: the record is damaged.
    """
    runs = config.grid.num_runs
    if not workdir.waves.exists():
        return schedule.waves(runs, config.engine.wave)
    try:
        cuts = [slice(int(start), int(stop)) for start, stop in json.loads(workdir.waves.read_text())]
        rows = [row for one in cuts for row in range(one.start, one.stop)]
    except (OSError, ValueError, TypeError) as error:
        if why := not_its_fault(error):
            raise UserError(f"cannot read {quoted(workdir.waves)}: {why}") from error
        raise _damaged(workdir) from error
    if rows != list(range(runs)) or any(one.start >= one.stop for one in cuts):
        raise _damaged(workdir)
    return cuts


def _damaged(workdir: Workdir) -> UserError:
    """Return the error of a damaged record."""
    return UserError(f"{str(workdir.waves)!r} is damaged: must hold [start, stop] of every wave; restore it")

"""A replay repeats the training of steps that no save holds, bit for bit, and evaluates them (`--mode=replay`).

Training repeats exactly, so a step between two saves is not lost: it lies on the way from an earlier state, or from the
initial one, to a later save. What is known of the first training (logged metrics, parameters that were kept) is
compared on the way. Each run keeps its added steps in files of its own, so that a replay that is killed goes on.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from etils import epath

from cspace_jax.analysis import turning_steps
from cspace_jax.config import Config, grid
from cspace_jax.engine import schedule
from cspace_jax.engine.engine import Engine, RunGroups
from cspace_jax.engine.placement import local_devices
from cspace_jax.errors import UserError
from cspace_jax.pipeline import elicit
from cspace_jax.pipeline.evaluate import Evaluation, require_checkpoints
from cspace_jax.pipeline.modes import COUNT, WIDTH
from cspace_jax.pipeline.probe import Probe
from cspace_jax.pipeline.progress import progress
from cspace_jax.pipeline.study import Study
from cspace_jax.pipeline.waves import Wave
from cspace_jax.storage import checkpoint
from cspace_jax.storage.environment import environment
from cspace_jax.storage.evaluations import write_npz
from cspace_jax.storage.metrics import read_metrics
from cspace_jax.storage.workdir import Workdir, step_file
from cspace_jax.training.run import TrainSpec
from cspace_jax.tree import take

AROUND = ("turn",)
_COMPARED = ("loss", "grad_norm", "schedule_b")  # metrics in which a repeated training must equal the first
_SAME = ("device_kind", "backend", "xla_flags")  # of env.json, besides the versions of JAX


@dataclasses.dataclass(frozen=True)
class ReplayRequest:
    """The steps that are trained again.

    Attributes:
      steps: of all runs; or
      around: "turn": `count` steps, evenly spaced over `width` steps, around each run's own turning step of its first
        held-out class (`curves.find_memorisation`).
      width: steps from the first to the last.
      count: number of steps.
    """

    steps: tuple[int, ...] = ()
    around: str = ""
    width: int = WIDTH
    count: int = COUNT


def check(config: Config, request: ReplayRequest) -> None:
    """Raise UserError for a request that makes no sense.

    It must have either `steps` or `around`, and numbers in their ranges.
    """
    if bool(request.steps) == bool(request.around):
        raise UserError('replay needs either --steps="(1200, 1210)" or --around=turn')
    if request.around and request.around not in AROUND:
        raise UserError(f"around = {request.around!r}: must be one of {', '.join(AROUND)}")
    for name, least in (("width", 1), ("count", 2)):
        if getattr(request, name) < least:
            raise UserError(f"{name} = {getattr(request, name)}: must be at least {least}")
    for step in request.steps:
        if not 1 <= step <= config.optim.steps:
            raise UserError(f"steps: {step} must be from 1 to optim.steps = {config.optim.steps}")


def require_same_machine(workdir: Workdir) -> None:
    """Raise UserError if no command of the workdir ran on this kind of device and version of JAX.

    Options of XLA and the version of jaxlib count too.
    """
    try:
        stored = json.loads(workdir.env.read_text())
        known = [stored, *stored.get("earlier", [])]
    except (OSError, ValueError, AttributeError, TypeError):
        raise UserError(f"{workdir.env} is missing or damaged: nothing tells which device trained") from None
    here = _kind(environment())
    kinds = [_kind(one) for one in known if isinstance(one, dict)]
    if here not in kinds:
        raise UserError(
            f"replay: trained on {_words(kinds[-1])}, this is {_words(here)}: a training repeats bit for bit only on "
            "the same kind of device, version and options"
        )


def _kind(env: Mapping) -> tuple[str, ...]:
    """Return the device, backend, options and versions of an environment."""
    versions = env["versions"] if isinstance(env.get("versions"), dict) else {}
    return (*(str(env.get(name)) for name in _SAME), *(str(versions.get(name)) for name in ("jax", "jaxlib")))


def _words(kind: Sequence[str]) -> str:
    """Return a kind of device in words."""
    device, backend, flags, jax_version, jaxlib = kind
    options = f", XLA_FLAGS {flags}" if flags else ""
    return f"{device} ({backend}, jax {jax_version}, jaxlib {jaxlib}{options})"


def wanted(study: Study, request: ReplayRequest) -> dict[int, list[int]]:
    """Return the steps to add for each run (row of the grid), without saved steps.

    Runs that do not turn are left out, with a line each.

    Raises:
      UserError: there are no results to find the turn in.
    """
    runs = range(study.config.grid.num_runs)
    if request.steps:
        steps = sorted(set(request.steps) - set(study.steps))
        return dict.fromkeys(runs, steps)
    centers = turns(study)
    for run in sorted(set(runs) - set(centers)):
        print(f"run {run} never turns: no steps are added")
    return {run: _window(study, center, request) for run, center in centers.items()}


def turns(study: Study) -> dict[int, float]:
    """Return the turning step of the first held-out class, run -> step, of runs that turn.

    The curves that it is found in are smoothed as in the summary.

    Raises:
      UserError: there are no results yet.
    """
    return {one.run: one.by_saves for one in turning_steps.turns(study.dataset)}


def _window(study: Study, center: float, request: ReplayRequest) -> list[int]:
    """Return the steps of a request around a turning step."""
    around = np.linspace(center - request.width / 2, center + request.width / 2, request.count)
    steps = {int(round(step)) for step in around}
    return sorted(step for step in steps - set(study.steps) if 1 <= step <= study.config.optim.steps)


def folder(study: Study, run: int) -> epath.Path:
    """Return the folder of a run's added steps."""
    return study.workdir.replay_of(run)


def naive_file(study: Study, run: int, step: int) -> epath.Path:
    """Return the file of the evaluation of an added step.

    It holds the arrays of an evaluation of one run, and whether the step is `exact`.
    """
    return step_file(folder(study, run), step)


def answer_file(study: Study, run: int, step: int) -> epath.Path:
    """Return the file of the answers to the battery at an added step."""
    return step_file(folder(study, run) / elicit.folder(study).name, step)


def replay(study: Study, probe: Probe, request: ReplayRequest) -> None:
    """Train the runs of this process again, and evaluate the requested steps that have no files yet.

    Raises:
      UserError: there are no results or no training, a step is beyond what was trained, a checkpoint that is needed is
        missing, a file cannot be written, or a device's memory does not suffice.
    """
    steps = wanted(study, request)
    todo = []
    for wave in study.own_waves:
        _require_read(study, wave)
        missing = {run: [s for s in steps.get(run, []) if _is_missing(study, run, s)] for run in wave.rows}
        missing = {run: some for run, some in missing.items() if some}
        _require_trained(study, wave, missing)
        todo += [(wave, missing)] if missing else []
    for wave, missing in todo:
        _replay_wave(study, wave, probe, missing)


def _is_missing(study: Study, run: int, step: int) -> bool:
    """Return whether a run's evaluation or answers at a step are missing."""
    asked = bool(study.config.elicit.protocols) and not answer_file(study, run, step).exists()
    return asked or not naive_file(study, run, step).exists()


def _require_read(study: Study, wave: Wave) -> None:
    """Raise UserError if there are no results that the added steps could be merged with."""
    asked = elicit.answer_file(elicit.folder(study), wave, 0) if study.config.elicit.protocols else None
    if not study.workdir.dataset.exists() or (asked is not None and not asked.exists()):
        mode = "eval" if asked is None else "elicit"
        root = study.workdir.root
        raise UserError(f"replay: {root} has no results that steps could be added to; run --mode={mode} first")


def _require_trained(study: Study, wave: Wave, missing: Mapping[int, Sequence[int]]) -> None:
    """Raise UserError if a requested step was not trained."""
    done = wave.trained_steps(study.config)
    last = max((max(steps) for steps in missing.values()), default=0)
    if last and done == 0:
        raise UserError(f"replay: {study.workdir.root} holds no training to repeat; run --mode=train first")
    if last > done:
        raise UserError(f"replay: step {last} is beyond the {done} steps that were trained")
    if last and elicit.patches(study.config):
        require_checkpoints(study, wave, [elicit.patch_step(study)])


def _replay_wave(study: Study, wave: Wave, probe: Probe, missing: Mapping[int, Sequence[int]]) -> None:
    """Train a wave again and evaluate its missing steps."""
    asked = sorted({step for steps in missing.values() for step in steps})
    runner = study.engine(wave)
    start, state = _nearest_state(wave, runner, asked[0])
    known, reader = _Comparison(study, wave), _RunReader(study, wave, probe)
    edges = [*study.steps, *range(0, asked[-1], study.config.optim.log_every), *asked]
    with progress(asked[-1], "replay", "step", start) as bar:
        for step, count in schedule.chunks(start, asked[-1], edges, runner.plan.steps_per_call):
            state, metrics = runner.train(state, step, count)
            known.look(step + count, runner, state, metrics, bar.write)
            runs = [run for run, steps in missing.items() if step + count in steps]
            if runs:
                params = runner.fetch([group.evaluated for group in state])
                for run in runs:
                    reader.read(run, step + count, params, run not in known.different)
            bar.update(count)


def _nearest_state(wave: Wave, runner: Engine, step: int) -> tuple[int, RunGroups]:
    """Return the latest state on disk that is not after a step.

    The result is the state's own step and the state. Without a state on disk it is 0 and the initial state.
    """
    folders = wave.state_folder, wave.kept_folder
    stored = {one: folder for folder in folders for one in checkpoint.steps(folder) if one <= step}
    if not stored:
        return 0, runner.init()
    start = max(stored)
    return start, checkpoint.restore_groups(stored[start], start, runner.abstract_state(), runner.groups)


class _Comparison:
    """Compare a repeated training with the known parts of the first.

    Known are logged metrics, kept parameters and kept states.
    """

    def __init__(self, study: Study, wave: Wave):
        self._wave = wave
        rows = read_metrics(study.workdir.metrics)
        self._logged = {(row["run"], row["step"]): row for row in rows if {"run", "step"} <= row.keys()}
        self._kept = set(checkpoint.steps(wave.params_folder))
        self._states = set(checkpoint.steps(wave.kept_folder))
        self.different: set[int] = set()

    def look(self, step: int, runner: Engine, state: RunGroups, metrics: list, say) -> None:
        """Compare all runs after a step where something is known of it.

        A run that differs is reported once.
        """
        rows = [self._logged.get((run, step)) for run in self._wave.rows]
        same = np.ones(len(rows), bool)
        if any(rows):
            found = runner.fetch(metrics)
            same &= [row is None or _equal_metrics(row, found, i) for i, row in enumerate(rows)]
        if step in self._kept:
            params = runner.fetch([group.evaluated for group in state])
            same &= checkpoint.equal_runs(self._wave.params_folder, step, params)
        if step in self._states:
            same &= checkpoint.equal_runs(self._wave.kept_folder, step, runner.fetch(state))
        for run in np.array(self._wave.rows)[~same]:
            if run not in self.different:
                self.different.add(int(run))
                say(f"run {run} differs from its first training at step {step}: what is added from here is not exact")


def _equal_metrics(row: Mapping, found, i: int) -> bool:
    """Return whether a logged row equals the metrics of the run in row `i`."""

    def equal(stored: float | None, value: np.float32) -> bool:
        return not np.isfinite(value) if stored is None else bool(np.float32(stored) == value)

    return all(equal(row.get(name), getattr(found, name)[i]) for name in _COMPARED)


class _RunReader:
    """Evaluate single runs of a wave, one after another, with the program of one run."""

    def __init__(self, study: Study, wave: Wave, probe: Probe):
        self._study, self._wave, self._probe = study, wave, probe
        self._plan = dataclasses.replace(study.plan, runs="loop")
        self._measures: dict[int, tuple[Engine, Evaluation]] = {}
        self._questions: dict[int, tuple[elicit.Questions, RunGroups]] = {}

    def read(self, run: int, step: int, params: dict, exact: bool) -> None:
        """Write the missing files of a run at a step.

        `params` are those of all runs of the wave, on the host.
        """
        if run not in self._measures:
            self._measures[run] = self._start(run)
        engine, measure = self._measures[run]
        one = engine.scatter(_row(params, self._wave.rows.index(run)))
        naive, answers = (file(self._study, run, step) for file in (naive_file, answer_file))
        if not naive.exists():
            write_npz(naive, {**measure(one), "exact": np.array([exact])})
        if self._study.config.elicit.protocols and not answers.exists():
            questions, patch = self._ask(run, engine)
            write_npz(answers, questions(one, patch or one))

    def _start(self, run: int) -> tuple[Engine, Evaluation]:
        """Return the engine and the evaluation of one run."""
        setting = grid.stack([self._wave.settings[self._wave.rows.index(run)]])
        spec = TrainSpec.from_config(self._study.config, self._plan)
        engine = Engine(spec, setting, self._plan, local_devices(self._plan)[:1])
        return engine, Evaluation(self._study, engine, self._probe)

    def _ask(self, run: int, engine: Engine) -> tuple[elicit.Questions, RunGroups]:
        """Return the questions to one run, and the parameters that patched queries use."""
        if run not in self._questions:
            patch: RunGroups = []
            if elicit.patches(self._study.config):
                step, row = elicit.patch_step(self._study), self._wave.rows.index(run)
                one = checkpoint.restore_run(self._wave.params_folder, step, engine.abstract_state().evaluated, row)
                patch = engine.scatter(jax.tree.map(lambda leaf: leaf[None], one))
            self._questions[run] = elicit.Questions(self._study, engine, self._probe), patch
        return self._questions[run]


def _row(tree: dict, i: int) -> dict:
    """Return one row of a tree, [1, ...]."""
    return take(tree, slice(i, i + 1))

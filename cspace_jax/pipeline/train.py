"""The training stage takes every run of this process from its last checkpoint to the last step."""

import dataclasses
import json
import time

import jax
from etils import epath

from cspace_jax import stopping
from cspace_jax.config import fingerprint
from cspace_jax.cost import fit
from cspace_jax.engine import schedule
from cspace_jax.engine.engine import Engine, RunGroups
from cspace_jax.errors import UserError
from cspace_jax.pipeline import log_results, replay
from cspace_jax.pipeline.online_evaluation import Reader
from cspace_jax.pipeline.probe import Probe
from cspace_jax.pipeline.progress import Recorder, earlier_metrics
from cspace_jax.pipeline.study import Study
from cspace_jax.pipeline.waves import Wave
from cspace_jax.storage import checkpoint
from cspace_jax.storage.files import write_atomic, writing
from cspace_jax.storage.metrics import append_metrics, sync, truncate_metrics
from cspace_jax.storage.superseded import set_aside

_CALL_SECONDS = 5.0  # that a call of training may take, if it is of more than one step: then it looks at signals


def train(study: Study, probe: Probe | None = None, again: bool = True) -> None:
    """Train the runs of this process to the last step, from their last checkpoints.

    Args:
      study: whose runs are trained.
      probe: reads the saves whose parameters are not kept; None if all are.
      again: whether runs may be trained again from step 0 that were trained before, as files that are needed are gone.

    Raises:
      UserError: needed files are gone and `again` is False, a file cannot be written, or a device's memory does not
        suffice.
      stopping.Stopped: a signal asked for the end; a state was saved.
    """
    for wave in study.own_waves:
        mend(study, wave)
        _look(study, wave, again)
    for wave in study.own_waves:
        study = _train_in_memory(study, wave, probe)


def _train_in_memory(study: Study, wave: Wave, probe: Probe | None) -> Study:
    """Train a wave. Where a device's memory does not suffice, smaller microbatches go on from the last state.

    Returns the study with the plan that was used in the end.
    """
    while True:
        try:
            _train_wave(study, wave, probe)
            return study
        except jax.errors.JaxRuntimeError as error:
            if not fit.out_of_memory(error):
                raise
            smaller = fit.smaller(study.config, wave.plan_of(study.config, study.plan))
        if smaller is None:
            raise UserError(
                f"the memory of a device does not suffice for {len(wave.rows)} runs at once; give engine.microbatch "
                "or, in another workdir, engine.wave a smaller number"
            )
        print(f"out of memory: training goes on with gradients of {smaller.microbatch} images at once", flush=True)
        study = dataclasses.replace(study, plan=smaller)
        wave.keep_plan(study.config, smaller, begins=False)


def _train_wave(study: Study, wave: Wave, probe: Probe | None) -> None:
    """Train a wave from its last state, and save and evaluate on the way."""
    last, every = study.config.optim.steps, study.config.optim.log_every
    saves = {*study.steps, last}  # the last step too, else every start would train up to it again
    done = _resumable_step(study, wave)
    if done == last:
        return log_results.begin(study, wave, done)
    if done == 0 or wave.microbatch is None:
        wave.keep_plan(study.config, study.plan, begins=done == 0)
    runner = study.engine(wave)
    state = _restore_state(study, wave, runner, done)
    log_results.begin(study, wave, done)  # after what an earlier training measured was set aside
    stops = sorted({*saves, *range(0, last, every), last})
    with Recorder(study, wave, done) as recorder, _Saver(study, wave, probe) as saver, stopping.saves():
        while done < last:
            most = min(runner.plan.steps_per_call, recorder.pace.steps_in(_CALL_SECONDS))
            count = schedule.next_count(done, stops, most)
            state, metrics = runner.train(state, done, count)
            done += count
            recorder.advance(done, metrics)
            if done in saves or stopping.asked():
                recorder.sync()  # a state on disk promises the metrics of all steps before it
            if done in saves:
                saver.save(done, runner, state)
            if stopping.asked():
                saver.keep(done, runner, state)
                stopping.leave()


def mend(study: Study, wave: Wave) -> None:
    """Put aside the newest state and parameters of a wave if they are damaged, and say so.

    A power cut may damage them. Parameters of the step of the last state are written again from it.

    Raises:
      UserError: a file cannot be read or written.
    """
    newest = checkpoint.latest_step(wave.params_folder)
    if newest and wave.unread([newest]) and not checkpoint.is_intact(wave.params_folder, newest):
        _put_aside(wave.params_folder, newest)
    while (step := checkpoint.latest_step(wave.state_folder)) and _must_read(study, wave, step):
        if checkpoint.is_intact(wave.state_folder, step):
            break
        _put_aside(wave.state_folder, step)
    wanted = {*study.kept, study.config.optim.steps} - set(checkpoint.steps(wave.params_folder))
    if step and step in wanted and wave.unread(study.steps) and checkpoint.is_intact(wave.state_folder, step):
        runner = study.engine(wave)
        state = checkpoint.restore_groups(wave.state_folder, step, runner.abstract_state(), runner.groups)
        with checkpoint.CheckpointWriter(wave.params_folder) as writer:
            writer.save(step, runner.fetch([group.evaluated for group in state]))


def _must_read(study: Study, wave: Wave, step: int) -> bool:
    """Return whether a state is needed, to train on or because an unread save's parameters are missing."""
    unread = wave.unread(study.steps)
    return step < study.config.optim.steps or bool(set(unread) - set(checkpoint.steps(wave.params_folder)))


def _put_aside(folder: epath.Path, step: int) -> None:
    """Put a damaged checkpoint aside, and say so."""
    target = checkpoint.put_aside(folder, step)
    print(f"checkpoint {folder / str(step)} is damaged: it is put aside as {target.name}, what was before it is used")


def _look(study: Study, wave: Wave, again: bool) -> None:
    """Print which files of a trained wave are gone, or refuse to train it again unasked."""
    done, stored, gone = _found(study, wave)
    if done == study.config.optim.steps and not gone and not checkpoint.steps(wave.state_folder):
        what = f"{wave.state_folder}" + ("" if stored else f" and {wave.params_folder}")
        needs = "more steps" + ("" if stored else ", further protocols and single models")
        print(f"{what} of a finished training are gone: nothing is trained again; {needs} would need them")
    if not again:
        require_files(study, wave)


def require_files(study: Study, wave: Wave) -> None:
    """Raise UserError if a trained wave lacks files and would be trained again from step 0."""
    done, stored, gone = _found(study, wave)
    if (done and not gone) or wave.unsaved.exists():
        return
    if gone or stored or _measured(study, wave) or _logged(study, wave):
        missing = f"parameters of step {gone[0]}" if gone else "states to go on from"
        raise UserError(
            f"{wave.name} was trained, but its {missing} are gone: --mode=train trains it again from step 0, and keeps "
            "what was measured in aside/"
        )


def _found(study: Study, wave: Wave) -> tuple[int, set[int], list[int]]:
    """Return a wave's last trained step, the steps with stored parameters, and those neither stored nor evaluated."""
    done, stored = wave.trained_steps(study.config), set(checkpoint.steps(wave.params_folder))
    return done, stored, [s for s in wave.unread(study.steps) if s <= done and s not in stored]


def _resumable_step(study: Study, wave: Wave) -> int:
    """Return the step that training goes on from, that of the last state.

    It is 0 if there is no state, or if a checkpoint before it that must be evaluated was removed.
    """
    done, _, lost = _found(study, wave)
    if lost:
        print(f"checkpoint {wave.params_folder / str(lost[0])} is missing: training starts again from step 0")
    return 0 if lost else done


def _restore_state(study: Study, wave: Wave, runner: Engine, step: int) -> RunGroups:
    """Return the state of a step, the initial one of step 0."""
    if step == 0:
        _begin(study, wave)
        return runner.init()
    return checkpoint.restore_groups(wave.state_folder, step, runner.abstract_state(), runner.groups)


def _begin(study: Study, wave: Wave) -> None:
    """Remove the states of a training that starts again, and set its measurements aside.

    What a training measured before it had a state to resume from is its own, and stays when it is begun once more.
    """
    later = checkpoint.steps(wave.state_folder)
    with writing(wave.unsaved):
        if later:
            wave.unsaved.unlink(missing_ok=True)  # first: it would outlive the states if this were killed
    for step in later:
        checkpoint.remove(wave.state_folder, step)
    if wave.unsaved.exists():
        return
    folders = set_aside(study.workdir, wave.name, _measured(study, wave))
    rows = list(earlier_metrics(study, wave, study.config.optim.steps))
    if _logged(study, wave) and not folders:
        folders = [study.workdir.aside / fingerprint(json.dumps(rows), 12)]
    for folder in folders:
        log = folder / f"metrics_{wave.name}.jsonl"
        if not log.exists():  # what is set aside again has the same content
            with writing(folder):
                folder.mkdir(parents=True, exist_ok=True)
            append_metrics(log, rows)
            sync(log)
        print(f"training of {wave.name} starts again: what was measured of the earlier one is kept in {folder}")
    if folders:  # they are aside: what is logged from here on is of this training
        truncate_metrics(study.workdir.own_metrics, 0, wave.rows)


def _logged(study: Study, wave: Wave) -> bool:
    """Return whether steps after the first save were logged, so that states were saved."""
    rows = earlier_metrics(study, wave, study.config.optim.steps)
    return any(row.get("step", 0) > study.steps[0] for row in rows)


def _measured(study: Study, wave: Wave) -> list[epath.Path]:
    """Return the files of all evaluations, answers and added steps of a wave's runs."""
    folders = [wave.eval_folder, *study.workdir.elicit.glob(f"*/{wave.name}")]
    for run in wave.rows:
        folders += [replay.folder(study, run), *replay.folder(study, run).glob("*")]
    return [file for folder in folders for file in folder.glob("*.npz")]


class _Saver:
    """Save the parameters of every kept step, and evaluate those of all others.

    The last state is saved for resuming. The state is three times the parameters (AdamW's moments), so it is saved at
    most every `engine.state_seconds` and at the last save, and older ones are removed once a newer one is complete.
    After an interruption the steps since the last state are trained again. States of `save.keep_states` lie apart,
    where nothing removes them.
    """

    def __init__(self, study: Study, wave: Wave, probe: Probe | None):
        self._params = checkpoint.CheckpointWriter(wave.params_folder)
        self._state = checkpoint.CheckpointWriter(wave.state_folder)
        self._folder, self._unsaved, self._kept = wave.state_folder, wave.unsaved, study.kept
        self._last, self._seconds = study.config.optim.steps, study.config.engine.state_seconds
        self._keep_states = study.config.save.keep_states
        self._kept_states = checkpoint.CheckpointWriter(wave.kept_folder)
        self._reader = Reader(study, wave, probe)
        self._saved = time.monotonic()

    def save(self, step: int, runner: Engine, state: RunGroups) -> None:
        """Save or evaluate a step, and save its state when it is time."""
        # In this order: a state on disk promises that of its step and of all earlier ones the parameters are there, or
        # what was read of them.
        self._finish()
        if not checkpoint.steps(self._folder) and not self._unsaved.exists():
            write_atomic(self._unsaved, "")  # what is read from here on is of this training
        params = [group.evaluated for group in state]
        if step in self._kept or step == self._last:
            self._params.save(step, runner.fetch(params))
            self._params.wait()
        else:
            self._reader.read(step, runner, params)
        if step in self._keep_states:
            self._kept_states.save(step, runner.fetch(state))
            self._kept_states.wait()
        if step == self._last or time.monotonic() - self._saved >= self._seconds:
            self._state.save(step, runner.fetch(state))
            self._saved = time.monotonic()

    def keep(self, step: int, runner: Engine, state: RunGroups) -> None:
        """Save the state of any step, as training ends before its last one."""
        self._finish()
        if step not in checkpoint.steps(self._folder):
            self._state.save(step, runner.fetch(state))
            self._finish()

    def _finish(self) -> None:
        """Wait for the state, and remove older ones."""
        self._state.wait()
        stored = checkpoint.steps(self._folder)
        if stored:
            with writing(self._unsaved):
                self._unsaved.unlink(missing_ok=True)
        for old in stored[:-1]:
            checkpoint.remove(self._folder, old)

    def __enter__(self) -> "_Saver":
        return self

    def __exit__(self, *error: object) -> None:
        self._params.__exit__(*error)  # type: ignore[arg-type]
        self._state.__exit__(*error)  # type: ignore[arg-type]
        if error[0] is None:
            self._finish()

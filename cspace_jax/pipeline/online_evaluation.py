"""A save whose parameters are not kept is evaluated while they are on the device."""

from cspace_jax.engine.engine import Engine, RunGroups
from cspace_jax.pipeline import elicit, log_results
from cspace_jax.pipeline.evaluate import Evaluation
from cspace_jax.pipeline.probe import Probe
from cspace_jax.pipeline.study import Study
from cspace_jax.pipeline.waves import Wave
from cspace_jax.storage.evaluations import write_npz


class Reader:
    """Read the saves of a wave with the study's probe and protocols.

    It writes the files that the later stages would write.

    Args:
      study: whose runs are read.
      wave: of the runs.
      probe: that reads their samples; None if no save will be read.
    """

    def __init__(self, study: Study, wave: Wave, probe: Probe | None):
        self._study, self._wave, self._probe = study, wave, probe
        self._evaluation: Evaluation | None = None
        self._questions: elicit.Questions | None = None

    def read(self, step: int, runner: Engine, params: RunGroups) -> None:
        """Write the evaluation of a step and the answers to the battery, unless they are there.

        Without protocols there are no answers.

        Raises:
          UserError: a file cannot be written, or the memory of a device does not suffice.
        """
        assert self._probe is not None, "saves that are not kept are read with a probe"
        if self._wave.unread([step]):
            self._evaluation = self._evaluation or Evaluation(self._study, runner, self._probe)
            arrays = self._evaluation(params)
            write_npz(self._wave.eval_file(step), arrays)
            log_results.take(self._study, self._wave, step, arrays)
        if self._study.config.elicit.protocols:
            self._ask(step, runner, params, self._probe)

    def _ask(self, step: int, runner: Engine, params: RunGroups, probe: Probe) -> None:
        """Write the answers to the battery at a step, unless they are there."""
        root = elicit.folder(self._study)
        file = elicit.answer_file(root, self._wave, step)
        if file.exists():
            return
        if self._questions is None:
            elicit.describe_battery(self._study, root)
            self._questions = elicit.Questions(self._study, runner, probe)
        write_npz(file, self._questions(params, params))  # nothing is patched (`elicit.check`)

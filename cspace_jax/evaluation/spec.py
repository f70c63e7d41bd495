"""The static description of evaluation: what decides the shape of a sampling program."""

import dataclasses

from cspace_jax.config import Config, EvaluateConfig
from cspace_jax.config.schema import ElicitConfig
from cspace_jax.evaluation import protocols
from cspace_jax.evaluation.probe import ProbeSpec
from cspace_jax.training.run import TrainSpec


@dataclasses.dataclass(frozen=True)
class EvalSpec:
    """Everything static about evaluation.

    Attributes:
      train: of training, the model among it.
      evaluate: what is measured at a saved step.
      probe: of the probe's network.
      elicit: the battery of protocols.
      shape: (queries, classes, samples per class) of one batch.
      battery: tells batteries apart whose protocols were redefined.
      split: whose losses are measured, "validation" or "test"; "" where none are.
    """

    train: TrainSpec
    evaluate: EvaluateConfig
    probe: ProbeSpec
    elicit: ElicitConfig
    shape: tuple[int, int, int]
    battery: str = ""
    split: str = ""

    @classmethod
    def from_config(cls, config: Config, train: TrainSpec, probe: ProbeSpec) -> "EvalSpec":
        """Collect the static parts of naive prompting of every class."""
        shape = (1, train.source.family.num, config.evaluate.samples_per_class)
        return cls(train, config.evaluate, probe, config.elicit, shape)

    @classmethod
    def of_battery(cls, config: Config, train: TrainSpec, probe: ProbeSpec, images_per_call: int = 0) -> "EvalSpec":
        """Collect the static parts of the battery of protocols on the held-out classes.

        The first element of `shape` is the number of queries of one batch: all, or as many as `images_per_call` images
        of a run hold, in batches of equal length.
        """
        held_out = len(train.source.family.held_out_ids)
        total = len(protocols.layout(config.elicit))
        most = max(1, images_per_call // (held_out * config.elicit.samples)) if images_per_call else total
        calls = -(-total // most)
        shape = (-(-total // calls), held_out, config.elicit.samples)
        evaluate = dataclasses.replace(config.evaluate, keep_samples=0)
        return cls(train, evaluate, probe, config.elicit, shape, protocols.fingerprint(config.elicit))

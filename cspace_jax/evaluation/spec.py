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
      guided: whether both branches of classifier-free guidance are evaluated, where a weight is neither 0 nor 1.
      at_once: most images of a run that pass through a network at once, in sampling, in reading by the probe and in
        losses; 0 = in sampling as the cache decides, else all.
    """

    train: TrainSpec
    evaluate: EvaluateConfig
    probe: ProbeSpec
    elicit: ElicitConfig
    shape: tuple[int, int, int]
    battery: str = ""
    split: str = ""
    guided: bool = True
    at_once: int = 0

    def microbatch_of(self, images: int) -> int:
        """Return how many of a run's images pass through the network at once: a divisor of `images`."""
        size = self.train.microbatch_of(images)
        most = min(size, self.at_once or size)
        return size if most == size else max(n for n in range(1, most + 1) if images % n == 0)

    def part_of(self, images: int) -> int:
        """Return how many of a run's images are read, or have their losses computed, at once: a divisor of `images`.

        All, where the next divisor is far smaller than what memory allows, as of a prime number.
        """
        size = self.microbatch_of(images) if self.at_once else images
        return size if 4 * size >= min(self.at_once, images) else images

    @classmethod
    def from_config(cls, config: Config, train: TrainSpec, probe: ProbeSpec) -> "EvalSpec":
        """Collect the static parts of naive prompting of every class."""
        shape = (1, train.source.classes.num, config.evaluate.samples_per_class)
        return cls(train, config.evaluate, probe, config.elicit, shape)

    @classmethod
    def of_battery(
        cls, config: Config, train: TrainSpec, probe: ProbeSpec, images_per_call: int = 0, queries: int = 0,
        guided: bool = True,
    ) -> "EvalSpec":  # fmt: skip
        """Collect the static parts of the battery of protocols on the held-out classes.

        The first element of `shape` is the number of queries of one batch: all, or as many as `images_per_call` images
        of a run hold, in batches of equal length. `queries` of the battery take part, 0 = all. Where a single query has
        more images, no more than `images_per_call` pass through the network at once, unless a cache decides.
        """
        held_out = len(train.source.classes.held_out_ids)
        total = queries or len(protocols.layout(config.elicit))
        most = max(1, images_per_call // (held_out * config.elicit.samples)) if images_per_call else total
        calls = -(-total // most)
        shape = (-(-total // calls), held_out, config.elicit.samples)
        evaluate = dataclasses.replace(config.evaluate, keep_samples=0)
        asked, at_once = protocols.fingerprint(config.elicit), 0 if train.cache_bytes else images_per_call
        return cls(train, evaluate, probe, config.elicit, shape, asked, guided=guided, at_once=at_once)

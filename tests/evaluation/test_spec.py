"""What is evaluated at once: batches of a battery."""

import dataclasses

import pytest
from batteries import CONFIG, with_protocols

from cspace_jax.evaluation import probe as probe_network
from cspace_jax.evaluation.spec import EvalSpec
from cspace_jax.training.run import TrainSpec

pytestmark = pytest.mark.network


def test_batches_of_a_battery_are_of_equal_length():
    config = dataclasses.replace(CONFIG, elicit=with_protocols("overprompt", samples=4))
    reader, trained = probe_network.ProbeSpec.from_config(config), TrainSpec.from_config(config)
    shapes = [EvalSpec.of_battery(config, trained, reader, most).shape for most in (0, 17, 1)]
    assert shapes == [(6, 1, 4), (3, 1, 4), (1, 1, 4)]  # 6 queries in 2 calls are 3 and 3, not 4 and 2

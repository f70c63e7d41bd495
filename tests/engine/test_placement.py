"""Where a plan puts runs, and one copy of what they share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import SingleDeviceSharding

from cspace_jax.config.plan import Plan
from cspace_jax.engine import placement
from cspace_jax.errors import UserError


@pytest.mark.parametrize(
    ("runs", "wave", "processes", "largest"),
    [(10, 0, 1, 10), (10, 3, 1, 3), (10, 0, 4, 3), (10, 2, 4, 2), (2, 5, 1, 2)],
)
def test_the_largest_wave_is_that_of_the_largest_share(runs, wave, processes, largest):
    assert placement.at_once(runs, wave, processes) == largest


def test_no_more_devices_than_there_are(monkeypatch):
    monkeypatch.setattr(jax, "local_devices", lambda: ["a", "b", "c"])
    assert placement.local_devices(Plan()) == ["a", "b", "c"] and placement.local_devices(Plan(devices=2)) == ["a", "b"]
    with pytest.raises(UserError, match="^engine.devices = 4: must be at most 3, the local devices; 0 = all$"):
        placement.local_devices(Plan(devices=4))


def test_the_precision_of_a_plan_holds_within_its_programs_alone():
    def precision(plan):
        with placement.precision(plan):
            return str(jax.make_jaxpr(jnp.dot)(np.ones((2, 2)), np.ones((2, 2))))

    before = jax.config.jax_default_matmul_precision
    assert "HIGHEST" in precision(Plan(precision="highest")) and "HIGHEST" not in precision(Plan())
    assert jax.config.jax_default_matmul_precision == before


def test_a_pool_is_sent_to_a_device_once_and_let_go_with_the_next(monkeypatch):
    monkeypatch.setattr(placement, "_latest", placement.Shared(()))
    place = SingleDeviceSharding(jax.local_devices()[0])
    pool = {"pictures": np.arange(6).reshape(2, 3)}
    first = placement.shared_pool(pool).at(place)
    np.testing.assert_array_equal(first["pictures"], pool["pictures"])
    assert placement.shared_pool(pool).at(place) is first
    other = placement.shared_pool(dict(pool))
    assert other.at(place) is not first and placement.shared_pool(pool).at(place) is not first

"""Random directions of queries: free, of the asked length, no near copies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batteries import ACTIVE, KEY, means

from cspace_jax.config.schema import DataConfig
from cspace_jax.data.renderer import Renderer
from cspace_jax.evaluation.query import random_direction, unlike

pytestmark = pytest.mark.network


def test_random_directions_are_no_near_copies_and_otherwise_free():
    """In the space of colour and size a fifth of all directions lies within 60 degrees of any other."""
    offset = jnp.asarray(means()[3] - means()[1])
    source = Renderer(DataConfig(active=ACTIVE))
    draw = jax.jit(jax.vmap(lambda key: random_direction(source, key, offset)))
    cosines = draw(jax.random.split(KEY, 2000)) @ (offset / np.linalg.norm(offset))
    assert cosines.max() < 0.5 and cosines.min() < -0.95
    # In four dimensions the density of a cosine is 2 / pi sqrt(1 - x^2); a fifth of it lies above one half.
    share = np.mean(cosines < 0)
    assert share == pytest.approx(0.5 / (1 - 0.1955), abs=0.03)


def test_where_every_candidate_is_a_near_copy_the_farthest_is_taken():
    near = jnp.array([[1.0, 0.1], [1.0, 1.5], [1.0, 0.0]])
    np.testing.assert_allclose(unlike(jnp.array([2.0, 0.0]), near), near[1] / np.sqrt(3.25), rtol=1e-6)
    np.testing.assert_allclose(unlike(jnp.zeros(2), near), near[0] / np.sqrt(1.01), rtol=1e-6)

"""What is read of finished samples without a network: the colour of an object, and images that are NaN."""

import jax.numpy as jnp
import numpy as np

from cspace_jax.evaluation import reading


def test_the_colour_of_an_object_is_that_of_its_pixels():
    images = np.full((3, 8, 8, 3), (0.9, 0.9, 0.8), np.float32)
    images[0, 3:5, 3:6] = (0.1, 0.2, 0.9)
    images[1, 2:4, 2:4], images[1, 4:6, 2:4] = (0.8, 0.1, 0.1), (0.7, 0.0, 0.0)  # both differ by more than half
    images[2, 3, 3], images[2, 5, 5] = (-3.0, 0.0, 0.0), (0.8, 0.8, 0.7)  # clipped; too near the background
    found = reading.object_color(jnp.asarray(images))
    np.testing.assert_allclose(found, [[0.1, 0.2, 0.9], [0.75, 0.05, 0.05], [0, 0, 0]], atol=1e-6)


def test_an_image_with_a_pixel_that_is_nan_has_no_reading():
    z = np.zeros((3, 2, 2, 3), np.float32)
    z[1, 0, 1, 2], z[2, 1, 1, 0] = np.nan, np.inf
    found = reading._keep_nan(jnp.full((3, 2), 0.25), jnp.asarray(z))
    np.testing.assert_array_equal(found, [[0.25, 0.25], [np.nan, np.nan], [np.nan, np.nan]])

"""Pictures as others read them."""

import numpy as np

from cspace_jax.storage.pictures import sheet


def test_a_sheet_has_a_row_a_class_and_stands_upright():
    images = np.zeros((2, 3, 4, 5, 3), np.uint8)
    images[1, 2, 0, 4] = 255  # the second class's third image: x smallest, y largest
    rows = sheet(images)
    assert rows.shape == (2 * 5, 3 * 4, 3) and np.argwhere(rows[..., 0]).tolist() == [[5, 8]]

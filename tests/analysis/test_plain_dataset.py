"""Rows of a plain dataset: words, bits and readings of each image, none where the run diverged."""

import numpy as np

from cspace_jax.analysis import plain_dataset
from cspace_jax.config.setting import SWEPT
from cspace_jax.data import concepts

CLASSES = concepts.classes(("color", "size"))


def made(prob):
    vectors = np.arange(3 * concepts.LAYOUT.dim, dtype=np.float32).reshape(3, -1) / 10
    images = plain_dataset.Images(["a.png", "b.png", "c.png"], np.array([0, 3, 2]), vectors, prob)
    return vectors, plain_dataset.rows(images, CLASSES, concepts.LAYOUT, {"run": 4, "sample": np.arange(3)})


def test_a_row_says_what_was_asked_for_and_what_was_read():
    prob = np.array([[0.9, 0.2], [0.4, 0.6], [np.nan, 0.9]])
    vectors, table = made(prob)
    assert table["file_name"].tolist() == ["a.png", "b.png", "c.png"]
    assert table["run"].tolist() == [4, 4, 4] and table["sample"].tolist() == [0, 1, 2]
    assert table["klass"].tolist() == ["00", "11", "10"] and table["trained"].tolist() == [1, 0, 1]
    assert table["words"].tolist() == ["red large", "blue small", "blue large"]
    assert table[["bit_color", "bit_size"]].values.tolist() == [[0, 0], [1, 1], [1, 0]]
    assert table["read_as"].tolist() == ["blue large", "red small", ""]
    assert table[["prob_color", "prob_size"]].values.tolist() == [["0.9", "0.2"], ["0.4", "0.6"], ["", "0.9"]]
    asked = [name for name in table.columns if name.startswith("asked_")]
    assert asked[4:8] == ["asked_color_0", "asked_color_1", "asked_color_2", "asked_size"] and len(asked) == 11
    np.testing.assert_array_equal(table[asked].astype(np.float32), vectors)


def test_images_that_nobody_read_have_no_readings():
    assert not [name for name in made(None)[1].columns if name.startswith(("prob_", "read_as"))]


def test_settings_are_ten_digits_of_every_swept_number():
    setting = dict.fromkeys(SWEPT, 0.1) | {"sep_col": np.float32(0.5), "data_noise": 1e-3, "seed": 7}
    found = plain_dataset.setting_facts(setting)
    assert list(found) == list(SWEPT) and found["sep_col"] == "0.5" and found["data_noise"] == "0.001"

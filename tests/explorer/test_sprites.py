"""Sheets of samples: upright, within their budget, wrapped where they are many or large."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from cspace_jax.explorer import sprites


def test_sheets_hold_the_pixels_upright():
    samples = {step: np.random.default_rng(step).integers(0, 256, (2, 4, 3, 5, 6, 3), np.uint8) for step in (10, 20)}
    found = sprites.sheets(samples)
    assert (
        found["number"] == 2 and found["of"] == 3 and found["shown"] == [0, 1]
    )  # of COUNTS, the largest that is there
    sheet = np.array(Image.open(io.BytesIO(base64.b64decode(found["sheets"][1].partition(",")[2]))))
    assert sheet.shape == (4 * 2 * 6, 2 * 5, 3)
    row, column = (2 * 2 + 1) * 6, 5  # class 2, sample 1, step 20
    upright = np.flip(samples[20][1, 2, 1].swapaxes(0, 1), 0)  # y upwards
    np.testing.assert_array_equal(sheet[row : row + 6, column : column + 5], upright)


def test_sheets_keep_to_their_budget_and_say_what_they_hold():
    noise = np.random.default_rng(0).integers(0, 256, (3, 4, 8, 16, 16, 3), np.uint8)
    samples = {step: noise for step in range(10)}
    whole = sprites.sheets(samples)
    assert whole["number"] == 8 and len(whole["shown"]) == 10
    size = sum(map(len, whole["sheets"]))
    fewer = sprites.sheets(samples, size // 3)
    assert fewer["number"] < 8 and len(fewer["shown"]) == 10 and sum(map(len, fewer["sheets"])) < size / 2
    least = sprites.sheets(samples, size // 40)
    assert least["number"] == 1 and least["shown"][-1] == 9 and len(least["shown"]) < 10
    assert sprites.sheets({}) == {}


@pytest.mark.parametrize(("saves", "size", "number"), [(512, 32, 1), (60, 274, 2), (9, 1700, 1)])
def test_sheets_of_many_or_large_pictures_are_pictures(saves, size, number):
    one = np.zeros((1, 4, 2, size, size, 3), np.uint8)
    found = sprites.sheets(dict.fromkeys(range(saves), one))
    sheet = Image.open(io.BytesIO(base64.b64decode(found["sheets"][0].partition(",")[2])))
    lines = -(-4 * found["number"] * len(found["shown"]) // found["across"])
    assert sheet.size == (found["across"] * size, lines * size) and max(sheet.size) <= 16_383
    assert found["shown"][-1] == saves - 1 and found["number"] >= (number if size < 1000 else 1)


def test_many_classes_of_large_pictures_are_wrapped_and_what_no_sheet_can_hold_is_said():
    one = np.zeros((1, 64, 1, 256, 256, 3), np.uint8)
    found = sprites.sheets({10: one, 20: one})
    assert found["shown"] == [0, 1] and found["number"] == 1 and found["across"] == 3  # 128 cells in 43 lines
    sheet = Image.open(io.BytesIO(base64.b64decode(found["sheets"][0].partition(",")[2])))
    assert sheet.size == (3 * 256, 43 * 256)
    large = {10: np.zeros((1, 64, 1, 1024, 1024, 3), np.uint8)}
    assert sprites.sheets(large) == {"why": sprites.TOO_LARGE}


def test_the_budget_holds_where_the_first_run_is_blank():
    noise = np.random.default_rng(0).integers(0, 256, (6, 4, 8, 16, 16, 3), np.uint8)
    noise[[0, 5]] = 0  # diverged
    samples = dict.fromkeys(range(4), noise)
    whole = sum(len(base64.b64decode(one.partition(",")[2])) for one in sprites.sheets(samples)["sheets"])
    less = sprites.sheets(samples, whole - 1)
    assert sum(len(base64.b64decode(one.partition(",")[2])) for one in less["sheets"]) < whole and less["number"] == 6

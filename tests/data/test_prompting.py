"""A class in words becomes the conditioning vector of its exact means."""

import numpy as np
import pytest
import tiny

from cspace_jax.config.setting import Setting
from cspace_jax.data.concepts import class_ranges, mean_conditionings
from cspace_jax.data.prompting import prompt
from cspace_jax.errors import UserError

CONFIG = tiny.study(grid={"sep_col": (0.6, 0.2), "sep_size": (0.3,)})


@pytest.mark.parametrize(("words", "klass"), [("red large", 0), ("small red", 1), ("10", 2), ("blue small", 3)])
def test_words_in_any_order_and_bits_name_a_class(words, klass):
    first = mean_conditionings(("color", "size"), class_ranges(0.6, 0.3, 0.2))  # of the first run
    np.testing.assert_allclose(prompt(CONFIG, words), first[klass], atol=1e-6)
    asked = mean_conditionings(("color", "size"), class_ranges(0.8, 0.4, 0.2))
    np.testing.assert_allclose(prompt(CONFIG, words, Setting(sep_col=0.8, sep_size=0.4)), asked[klass], atol=1e-6)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("blu small", "did you mean 'blue'"),
        ("blue", "one word for each of color, size"),
        ("blue red", "one word"),
        ("012", "'012' is none of red, blue"),
    ],
)
def test_other_words_are_one_line(words, told):
    with pytest.raises(UserError, match=told) as error:
        prompt(CONFIG, words)
    assert "\n" not in str(error.value)

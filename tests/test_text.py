"""Words for numbers."""

from cspace_jax.text import minutes


def test_durations_are_in_words():
    assert [minutes(s) for s in (3.2, 89, 100, 5000, 20000)] == ["3 s", "89 s", "2 min", "83 min", "6 h"]

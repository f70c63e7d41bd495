"""Words for numbers."""

from cspace_jax.text import in_words, minutes


def test_durations_are_in_words():
    assert [minutes(s) for s in (3.2, 89, 100, 5000, 20000)] == ["3 s", "89 s", "2 min", "83 min", "6 h"]


def test_sizes_have_three_digits_and_never_a_thousand_of_a_smaller_unit():
    sizes = (0, 512, 999.4, 999.6e3, 85.25e6, 999.4e6, 999.6e6, 1e9, 999.4e9, 999.6e9, 1234e9)
    said = [
        "0 kB",
        "0.512 kB",
        "0.999 kB",
        "1 MB",
        "85.2 MB",
        "999 MB",
        "1 GB",
        "1 GB",
        "999 GB",
        "1,000 GB",
        "1,234 GB",
    ]
    assert [in_words(size) for size in sizes] == said

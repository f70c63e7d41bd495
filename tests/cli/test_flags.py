"""Flags: what is said first, and help that is made from the tables."""

import pytest

from cspace_jax.cli import flags
from cspace_jax.pipeline import modes

pytestmark = pytest.mark.filterwarnings(r"ignore:the load_module\(\) method is deprecated:DeprecationWarning")


def test_the_first_words_come_before_the_study_is_read(capsys):
    said = []

    def say(text):
        said.append(text)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        flags.parse_flags(["m", "--config=no_such_study", "--workdir=w"], say)
    assert said == ["cspace_jax: mode all, no_such_study, workdir w; loading JAX"]


def test_the_mode_help_is_made_from_the_table_of_modes():
    assert all(f"{name}: {mode.does}." in flags.FLAGS["mode"].help for name, mode in modes.MODES.items())

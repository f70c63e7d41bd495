"""What --help and --version print."""

import platform

import jax
import pytest

from cspace_jax.cli import flags, overview
from cspace_jax.config import schema
from cspace_jax.pipeline import modes
from cspace_jax.studies import loading

pytestmark = pytest.mark.filterwarnings(r"ignore:the load_module\(\) method is deprecated:DeprecationWarning")


def test_help_is_one_screen_that_names_every_study_and_mode():
    lines = overview.screen().splitlines()
    assert len(lines) <= 45 and max(map(len, lines)) <= 100
    starts = [line.split()[0] for line in lines if line.startswith("  ")]
    assert {*loading.STUDIES, *modes.MODES} <= set(starts)


def test_overrides_that_the_help_shows_are_fields():
    shown = [word.partition("=")[0] for word in overview.screen().split() if word.startswith("--config.grid")]
    assert len(shown) >= 3 and {name.removeprefix("--config.grid.") for name in shown} <= set(schema.AXES)
    flags._check_fields([f"{name}=0" for name in shown])


def test_the_version_is_that_of_the_package_of_jax_and_of_python():
    assert overview.version() == f"cspace_jax 0.1.0 (jax {jax.__version__}, python {platform.python_version()})"

"""Config files by their path: from anywhere, and missing ones as one line."""

import pathlib

import pytest

from cspace_jax.config import config_files
from cspace_jax.errors import UserError

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_a_copied_study_works_from_anywhere(tmp_path):
    text = (ROOT / "cspace_jax" / "studies" / "signal.py").read_text()
    (tmp_path / "mine.py").write_text(text.replace('"smoke": (0.2, 0.8)', '"smoke": (0.3,)'))
    assert config_files.load(tmp_path / "mine.py").get_config("smoke").grid.sep_col == (0.3,)


def test_missing_config_file_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="no such Python file"):
        config_files.load(tmp_path / "absent.py")

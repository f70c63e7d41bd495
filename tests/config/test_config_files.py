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


def test_dataclasses_with_postponed_annotations_may_stand_in_a_file(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        text = "from __future__ import annotations\nimport dataclasses\n@dataclasses.dataclass\n"
        text += f"class A:\n    x: str = {folder!r}"
        (tmp_path / folder / "mine.py").write_text(text)
    first, second = (config_files.load(tmp_path / folder / "mine.py") for folder in ("one", "two"))
    assert (first.A().x, second.A().x) == ("one", "two") and first.__name__ != second.__name__

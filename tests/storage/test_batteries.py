"""What a battery asked, read back from beside its answers."""

import errno

import pytest
from disks import fail_with
from etils import epath

from cspace_jax.errors import UserError
from cspace_jax.storage import batteries, checked_json
from cspace_jax.storage.workdir import DESCRIPTION

ASKED = {"protocols": ["naive", "patch"], "values": ["", ""], "samples": 4}


@pytest.fixture
def root(tmp_path):
    return epath.Path(tmp_path)


def test_an_older_description_tells_no_controls(root):
    checked_json.write(root / DESCRIPTION, ASKED | {"more": 1})
    assert batteries.description(root) == ASKED | {"controls": ""}
    checked_json.write(root / DESCRIPTION, ASKED | {"controls": "2"})
    assert batteries.description(root)["controls"] == "2"


@pytest.mark.parametrize("text", ["", "[]", '{"protocols": [], "values": []}', '{"samples": 4, "crc32": "0"}'])
def test_what_is_damaged_is_to_be_removed(text, root):
    (root / DESCRIPTION).write_text(text)
    with pytest.raises(
        UserError, match=f"^elicit: {root / DESCRIPTION} is damaged; remove {root} to measure it again$"
    ):
        batteries.description(root)


def test_a_disk_that_fails_is_no_damage(root, monkeypatch):
    monkeypatch.setattr(checked_json, "read", fail_with(errno.EIO))
    with pytest.raises(UserError, match=r"cannot be read \(input/output error") as error:
        batteries.description(root)
    assert "remove" not in str(error.value)

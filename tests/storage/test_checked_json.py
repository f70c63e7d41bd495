"""Small files with a checksum."""

import pytest
from etils import epath

from cspace_jax.storage import checked_json


def test_a_small_file_with_a_checksum_notices_another_value(tmp_path):
    path = epath.Path(tmp_path / "a.json")
    checked_json.write(path, {"seeds": [1, 2], "steps": 7})
    assert checked_json.read(path) == {"seeds": [1, 2], "steps": 7}
    path.write_text(path.read_text().replace("7", "5"))
    with pytest.raises(ValueError, match="its checksum differs"):
        checked_json.read(path)
    path.write_text('{"steps": 5}')  # of an older version
    assert checked_json.read(path) == {"steps": 5}
    path.write_text("[5]")
    with pytest.raises(ValueError, match="holds no fields"):
        checked_json.read(path)

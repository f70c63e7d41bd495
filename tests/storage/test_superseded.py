import json
import pathlib

import pytest
from etils import epath

from cspace_jax.errors import UserError
from cspace_jax.storage.superseded import set_aside
from cspace_jax.storage.workdir import Workdir


@pytest.mark.parametrize("name", ["../outside", "eval/../../outside", "/etc/hostname", "link/outside"])
def test_a_listing_that_leads_out_of_the_workdir_moves_nothing(name, tmp_path):
    """A workdir from elsewhere may hold any."""
    workdir = Workdir(epath.Path(tmp_path / "w"))
    listing = tmp_path / "w" / "aside" / "0123" / "moving_wave_000.json"
    listing.parent.mkdir(parents=True)
    (tmp_path / "outside").touch()
    (tmp_path / "w" / "link").symlink_to(tmp_path)
    for content, words in ((json.dumps([name]), "leads out of the workdir"), ("{", "damaged"), ("3", "damaged")):
        listing.write_text(content)
        with pytest.raises(UserError, match=words):
            set_aside(workdir, "wave_000", [])
    assert (tmp_path / "outside").exists() and pathlib.Path("/etc/hostname").exists()


def test_a_listing_is_carried_out_to_its_end(tmp_path):
    workdir = Workdir(epath.Path(tmp_path))
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "a.npz").write_text("a")
    listing = tmp_path / "aside" / "0123" / "moving_wave_000.json"
    listing.parent.mkdir(parents=True)
    listing.write_text(json.dumps(["eval/gone.npz", "eval/a.npz"]))
    assert set_aside(workdir, "wave_000", []) == [listing.parent]
    assert (listing.parent / "eval" / "a.npz").read_text() == "a" and not listing.exists()

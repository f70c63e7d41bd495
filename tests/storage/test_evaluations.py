"""Files of evaluations: of the right place and with every array, or one line."""

import numpy as np
import pytest

from cspace_jax.errors import UserError
from cspace_jax.storage.evaluations import holds, read_evaluation, write_npz


def test_an_evaluation_without_an_array_names_it(tmp_path):
    np.savez(tmp_path / "step_00000500.npz", prob_samples=np.zeros((1, 1, 4, 2, 2)))
    assert set(read_evaluation(tmp_path / "step_00000500.npz", ("prob_samples",))) == {"prob_samples"}
    with pytest.raises(UserError, match="holds no array 'mean_rgb'"):
        read_evaluation(tmp_path / "step_00000500.npz")


@pytest.mark.parametrize("other", ["eval/wave_000/step_00000250.npz", "eval/wave_001/step_00000500.npz",
    "extensions/001/eval/wave_000/step_00000500.npz", "elicit/0123456789ab/wave_000/step_00000500.npz",
    "replay/run_00001/step_00000500.npz"])  # fmt: skip
def test_an_evaluation_in_the_place_of_another_is_named(tmp_path, other):
    own, taken = tmp_path / "eval/w/eval/wave_000/step_00000500.npz", tmp_path / "eval/w" / other
    (tmp_path / "eval/w").mkdir(parents=True)
    (tmp_path / "eval/w/config.json").touch()
    for path in (own, taken):
        write_npz(path, {"prob_samples": np.zeros(2)})
        read_evaluation(path, ("prob_samples",))
    own.write_bytes(taken.read_bytes())
    with pytest.raises(UserError, match=f"{own} holds that of {other}; delete the file to measure it again"):
        read_evaluation(own, ("prob_samples",))
    (tmp_path / "eval/w").rename(tmp_path / "moved")
    read_evaluation(tmp_path / "moved" / other, ("prob_samples",))  # a workdir may be moved


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 cut off", b"\x93NUMPY"])
def test_damaged_evaluation_is_one_clear_line(tmp_path, damage):
    path = tmp_path / "step_00000500.npz"
    path.write_bytes(damage)
    with pytest.raises(UserError, match="cannot be read") as caught:
        read_evaluation(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="cannot be read"):
        holds(path, ("prob_samples",))

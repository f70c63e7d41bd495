import subprocess
import sys

import pytest

from cspace_jax.errors import UserError
from experiments import soak
from experiments.soak import Seen


def looks(megabytes, files):
    return [Seen(i, 0, mb, n) for i, (mb, n) in enumerate(zip(megabytes, files, strict=True))]


def test_growth_is_told_from_what_a_save_in_progress_takes():
    """A save takes 50 MB and 3 files at every third look; under it memory grows by 1 MB a look."""
    seen = looks([100 + i + 50 * (i % 3 == 0) for i in range(100)], [5 + 3 * (i % 3 == 0) for i in range(100)])
    early, late = soak.grown(seen, lambda one: one.saves, 100)
    assert (early.files, late.files) == (5, 5)
    assert 110 <= early.megabytes <= 120 and 190 <= late.megabytes <= 200


def test_files_that_stay_open_are_seen():
    early, late = soak.grown(looks([100] * 100, range(100)), lambda one: one.saves, 100)
    assert (early.files, late.files) == (10, 91)


def test_a_stage_that_is_over_too_soon_is_one_line():
    with pytest.raises(UserError, match="seen 9 times, that is too few"):
        soak.grown(looks([100] * 10, [5] * 10), lambda one: one.saves, 10)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_process_is_watched_until_it_ends(tmp_path):
    (tmp_path / "checkpoints/wave_000/params/7").mkdir(parents=True)
    running = subprocess.Popen([sys.executable, "-c", "import time; held = bytes(50_000_000); time.sleep(1.2)"])
    seen = soak.watch(running, tmp_path)
    assert running.wait() == 0 and len(seen) >= 3
    assert seen[-1].saves == 1 and seen[-1].evaluations == 0 and seen[-1].megabytes > 1 and seen[-1].files >= 3

import subprocess
import sys

import pytest

from cspace_jax.errors import UserError
from experiments import grid_load, soak
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
    running = subprocess.Popen([sys.executable, "-c", "import time; held = bytes(50_000_000); time.sleep(4)"])
    seen = soak.watch(running, tmp_path)
    assert running.wait() == 0 and len(seen) >= 3
    assert seen[-1].saves == 1 and seen[-1].evaluations == 0 and seen[-1].megabytes > 1 and seen[-1].files >= 3


@pytest.mark.parametrize(("seconds", "megabytes", "code"), [(1.19, 1.0, 0), (1.21, 1.0, 1), (1.0, 1.21, 1)])
def test_a_run_of_a_large_grid_may_cost_a_fifth_more(seconds, megabytes, code, tmp_path, monkeypatch, capsys):
    def measured(arguments, folder):
        folder.mkdir(exist_ok=True)
        (folder / "times.json").write_text('{"train": 3.0, "evaluate": 2.0}')
        large = folder.name == "runs_40"
        return (40 * seconds, 40 * megabytes) if large else (10.0, 10.0)

    monkeypatch.setattr(grid_load, "measured", measured)
    line = [f"--workdir={tmp_path}", "--runs=10,40", "--saves=2"]
    if code:
        with pytest.raises(SystemExit, match="1"):
            grid_load.run(line)
    else:
        grid_load.run(line)
    out = capsys.readouterr().out
    assert f"| 40 | {40 * seconds:.0f} s | 3 s, 2 s | {seconds:.2f} s |" in out and "`--mode=figures` of 40 runs" in out


def test_a_grid_load_without_sizes_is_one_line(tmp_path):
    with pytest.raises(UserError, match="runs = .40, 10.: must be numbers of at least 1, ascending"):
        grid_load.run([f"--workdir={tmp_path}", "--runs=40,10"])

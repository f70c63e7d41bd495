"""A reader of the output that goes away ends the printing and nothing else."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
CODE = """
import sys
from cspace_jax.cli import streams
streams.outlive_readers()
sys.stdin.readline()  # the reader is gone by now
for i in range(3000):
    print("line", i, flush=i % 7 == 0)
    print("warning", i, file=sys.stderr)
open(sys.argv[1], "w").write("done")
"""


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_work_goes_on_after_the_reader_is_gone(closed, tmp_path):
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", CODE, str(tmp_path / "f")], env=environment, **streams) as running:
        getattr(running, closed).close()
        running.stdin.write("\n")
        running.stdin.close()
        left = getattr(running, "stderr" if closed == "stdout" else "stdout").read()
        assert running.wait(60) == 0
    assert (tmp_path / "f").read_text() == "done"
    assert left.count("\n") == 3000 and "Traceback" not in left


@pytest.mark.skipif(not pathlib.Path("/dev/full").exists(), reason="no /dev/full")
def test_work_goes_on_where_the_disk_of_a_log_is_full(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with open("/dev/full", "w") as full:
        line = [sys.executable, "-c", CODE, str(tmp_path / "f")]
        done = subprocess.run(line, env=environment, stdin=subprocess.DEVNULL, stdout=full, stderr=full)
    assert done.returncode == 0 and (tmp_path / "f").read_text() == "done"


def test_words_that_the_terminal_cannot_show_end_nothing(tmp_path):
    code = "from cspace_jax.cli import streams; streams.outlive_readers(); print('\\u2192 caf\\xe9 \\udcff')"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert (done.returncode, done.stdout.decode("latin-1")) == (0, "\\u2192 café \\udcff\n"), done.stderr


def test_help_may_be_cut_short():
    line = f"{sys.executable} -m cspace_jax.main --help | true; exit ${{PIPESTATUS[0]}}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", line], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")

"""Command lines carried out by tests: in this process, where compiled programs are shared, or in one of their own."""

import contextlib
import dataclasses
import io
import os
import pathlib
import subprocess
import sys

import jax
import pandas as pd
from absl.testing import flagsaver

from cspace_jax.cli import command as front
from cspace_jax.cli import flags, scripts
from experiments import narrow

ROOT = pathlib.Path(__file__).resolve().parents[2]


UNOPTIMISED = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"  # as smoke is compiled

NARROW = (*narrow.FLAGS, "--config.figures=()")

# Where probes are shared by all workers and the processes that they start.
SHARED = f"--config.probe.cache_dir={os.environ['CSPACE_JAX_TEST_PROBES']}"


def study(name="signal"):
    return f"--config={ROOT / 'configs' / name}.py:smoke"


@dataclasses.dataclass
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str


def command(*arguments):
    """Carry out a command line in this process, where programs that were compiled once need no time."""
    argv = ["main.py", *map(str, arguments)]
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), flagsaver.flagsaver(), arguments_of(argv):
        flags.FLAGS.unparse_flags()
        try:
            rest = scripts.exit_on_user_error(flags.parse_flags, argv)
            scripts.exit_on_user_error(front.run, rest)
        except SystemExit as exit_:
            code = int(exit_.code or 0)
    return Done(code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def arguments_of(argv):
    before, sys.argv = sys.argv, argv
    try:
        yield
    finally:
        sys.argv = before


def environment(**more):
    cache = {"JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir or ""}
    least = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}  # they start with nothing compiled
    return {**os.environ, "CSPACE_JAX_RESTARTED": "1", "PYTHONPATH": str(ROOT), **cache, **least, **more}


def process(*arguments, **more):
    line = [sys.executable, "-m", "cspace_jax.main", *map(str, arguments)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(line, env=environment(**more), **streams)


def real_command(*arguments, **more):
    running = process(*arguments, **more)
    out, err = running.communicate(timeout=1200)
    return Done(running.returncode, out, err)


def snapshot(folder, ignored=()):
    """Every file with its time of change and content."""
    files = [path for path in pathlib.Path(folder).rglob("*") if path.is_file() and path.name not in ignored]
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def assert_one_line(done, words):
    assert done.code == 2, (done.out, done.err)
    assert done.err.startswith("error: ") and done.err.count("\n") == 1 and words in done.err, done.err


def without_progress(done):
    """The same without the progress bars that a command had shown before it failed."""
    lines = done.err.replace("\r", "\n").splitlines(True)
    bars = ("train:", "evaluate:", "probe:", "\n")
    return dataclasses.replace(done, err="".join(line for line in lines if not line.startswith(bars)))


def assert_same_table(ours, theirs):
    """Fail unless two tables are equal within rounding, which the instructions of a CPU decide.

    With jax 0.10.2 two x86 CPUs with AVX-512 (Intel, AMD Zen 5) differ by up to 1.4e-7; older ones take other sums.
    """
    first, second = (pd.read_csv(path, dtype={"klass": str}) for path in (ours, theirs))
    tolerance = 2e-6 if jax.__version__ == "0.10.2" and _has_avx512() else 1e-3
    pd.testing.assert_frame_equal(first, second, rtol=tolerance, atol=tolerance)


def _has_avx512():
    cpu = pathlib.Path("/proc/cpuinfo")
    return cpu.exists() and " avx512f " in cpu.read_text()

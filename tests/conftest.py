"""What every test runs under: the CPU, checked annotations, and one compilation cache per test session."""

import gc
import importlib.metadata
import os
import pathlib
import shutil
import signal
import tempfile
from collections.abc import Iterator

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in the background (nohup), which processes would inherit
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "1")
# Most of the tests' time is compilation. Without optimisation it takes half as long; the older code generator, without
# forced inlining, brings a smoke study from 56 to 34 CPU seconds. Newer versions of XLA do not know the two flags and
# would abort.
# tests/golden/smoke was written under these flags: other code rounds otherwise.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0"
    + " --xla_llvm_force_inline_before_split=false --xla_cpu_use_fusion_emitters=false"
    * importlib.metadata.version("jaxlib").startswith("0.10.")
    + " --xla_cpu_parallel_codegen_split_count=1",
)

# Without the lines of Python in lowered programs, and without the garbage collector going through what imports left
# (below), three files of tests took 91 CPU seconds between two rounds of 114 and 100.
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")

import hypothesis
import jax
import jaxtyping
import pytest

# Tests write checkpoints by the hundred, each of which waits until it is on the disk: two files of them took 56 s on a
# disk and 44 s in memory.
_MEMORY_DISK = pathlib.Path("/dev/shm")
if _MEMORY_DISK.is_dir() and os.access(_MEMORY_DISK, os.W_OK) and shutil.disk_usage(_MEMORY_DISK).free > 4e9:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY_DISK))

# Probes of commands, shared by all workers and the processes that they start: the first to need one trains it.
os.environ.setdefault("CSPACE_JAX_TEST_PROBES", tempfile.mkdtemp(prefix="cspace_jax_probes_"))

# The same examples at every start, so that a failure can be repeated; other ones where more are asked for.
hypothesis.settings.register_profile("repeatable", derandomize="CSPACE_JAX_EXAMPLES" not in os.environ, print_blob=True)
hypothesis.settings.load_profile("repeatable")

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Modules whose annotations give shapes; those without are checked by pyright alone. Checking all takes 10 s a worker to
# prepare and a tenth of the time of studies.
SHAPED = [
    ".".join(file.relative_to(ROOT).with_suffix("").parts)
    for file in sorted((ROOT / "cspace_jax").rglob("*.py"))
    if "from jaxtyping import" in file.read_text()
]
# Works on modules imported after it: no import of the package may stand above.
jaxtyping.install_import_hook(SHAPED, "annotations.check_annotations")


@pytest.fixture(scope="session", autouse=True)
def _compilation_cache(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> None:
    """Compile each program once: all workers of pytest-xdist share a cache, which outlives the session.

    CSPACE_JAX_TEST_CACHE names its folder; "off" makes one for this session alone.
    """
    wanted = os.environ.get("CSPACE_JAX_TEST_CACHE")
    if wanted == "off":
        own = tmp_path_factory.getbasetemp()
        folder = (own if worker_id == "master" else own.parent) / "jax_cache"
    else:
        folder = pathlib.Path(wanted) if wanted else pathlib.Path.home() / ".cache" / "cspace_jax" / "tests"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)


PROCESSES = {"system", "long"}  # folders whose tests start processes or carry out whole studies


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the shared probes, once all workers have ended."""
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ["CSPACE_JAX_TEST_PROBES"], ignore_errors=True)


def pytest_collection_finish() -> None:
    """Leave what imports made out of garbage collection, and collect less often: tracing makes millions of objects."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what starts processes or carries out studies as system, and what neither does so nor is `network` as unit.

    Files with long tests come first: workers take whole files, and the last one should not wait for a long one. Of
    them, those that use a study which another file compiles come later.
    """
    late = ("test_experiments.py", "test_kills.py", "test_unchanged.py", "test_installed.py")
    items.sort(key=lambda item: (not PROCESSES & {*item.path.parts}, item.path.name in late))
    for item in items:
        if _is_system(item):
            item.add_marker(pytest.mark.system)
        elif item.get_closest_marker("network") is None:
            item.add_marker(pytest.mark.unit)


def _is_system(node: pytest.Item | pytest.Module) -> bool:
    return bool(PROCESSES & {*node.path.parts}) or node.get_closest_marker("system") is not None


@pytest.fixture(scope="module", autouse=True)
def _annotations(request: pytest.FixtureRequest) -> None:
    """Check shapes where functions are tested, not while whole studies are: it takes a fifth of the time of tracing."""
    networks = request.node.get_closest_marker("network") is not None
    jaxtyping.config.update("jaxtyping_disable", _is_system(request.node) and not networks)


@pytest.fixture(scope="module", autouse=True)
def _forget_programs() -> Iterator[None]:
    """Let go of the compiled programs of a file at its end: a worker that keeps those of all files takes 9 GB."""
    yield
    jax.clear_caches()

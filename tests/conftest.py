"""What every test runs under: the CPU, checked annotations, and one compilation cache per test session."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "1")
# Most of the tests' time is compilation; without optimisation it takes half as long.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

from collections.abc import Callable
from typing import Any

import jax
import pytest
from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

_CHECK = beartype(conf=BeartypeConf(is_pep484_tower=True))  # the tower lets an int stand for a float


def check_annotations(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check a function's arguments and result at call time, except the fields of dataclasses.

    Their annotations describe one run, but JAX also makes them with leaves that are stacked over runs.
    """
    return function if function.__name__ == "__init__" else _CHECK(function)


# Works on modules imported after it: no import of the package may stand above.
install_import_hook("cspace_jax", "conftest.check_annotations")


@pytest.fixture(scope="session", autouse=True)
def _compilation_cache(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> None:
    """Compile each program once per session: all workers of pytest-xdist share the cache, a later session does not."""
    own = tmp_path_factory.getbasetemp()
    folder = (own if worker_id == "master" else own.parent) / "jax_cache"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)

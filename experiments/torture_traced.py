"""The command, which writes into the file TORTURE_TRACE of its environment which stage it is in (`torture_stages.py`).

    TORTURE_TRACE=trace python -m experiments.torture_traced --config=signal:smoke --workdir=runs/a

Functions of the package are wrapped as their modules are loaded; the package itself knows nothing of it. A stage that
an error ends stays the last line.
"""

import contextlib
import functools
import importlib.abc
import importlib.machinery
import os
import sys
import time
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from cspace_jax.storage import file_names
from experiments import torture_stages as stages

_IN = "cspace_jax.pipeline."
# By module the functions and methods that are a stage; None = parameters or a state, as the writer's folder says.
TRACED: dict[str, dict[str, str | None]] = {
    f"{_IN}probe_cache": {"_train_and_save": stages.PROBE},
    f"{_IN}train": {"_train_wave": stages.TRAINING},
    "cspace_jax.storage.checkpoint": {"CheckpointWriter.save": None, "CheckpointWriter.wait": None},
    f"{_IN}evaluate": {"evaluate": stages.EVALUATION},
    f"{_IN}online_evaluation": {"Reader.read": stages.EVALUATION},
    f"{_IN}elicit": {"ask": stages.BATTERY},
    f"{_IN}stages": {"_write_results": stages.MERGE, "draw": stages.FIGURES},
    f"{_IN}page": {"write": stages.REPORT},
    f"{_IN}preparation": {"prepare_extension": stages.EXTENSION},
    f"{_IN}replay": {"replay": stages.REPLAY},
}
_inside = [stages.START]


def _write(stage: str) -> None:
    stage = stages.EXTENSION if stage == stages.TRAINING and "--mode=extend" in sys.argv else stage
    with open(os.environ["TORTURE_TRACE"], "a") as file:
        file.write(f"{time.monotonic():.4f} {stage}\n")


@contextlib.contextmanager
def _stage(name: str) -> Iterator[None]:
    _inside.append(name)
    _write(name)
    try:
        yield
        _inside[0] = stages.BETWEEN
        _write(_inside[-2])
    finally:
        _inside.pop()


def _wrapped(function: Callable[..., Any], name: str | None) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if function.__name__ == "wait" and args[0]._pending is None:  # there is no save to wait for
            return function(*args, **kwargs)
        of_folder = stages.PARAMS if name is None and args[0]._folder.name == file_names.PARAMS else stages.STATE
        with _stage(name or of_folder):
            return function(*args, **kwargs)

    return call


def trace(module: types.ModuleType) -> None:
    """Wrap the functions of a module that are stages."""
    for name, stage in TRACED[module.__name__].items():
        *owners, last = name.split(".")
        owner = functools.reduce(getattr, owners, module)
        setattr(owner, last, _wrapped(getattr(owner, last), stage))


class _Finder(importlib.abc.MetaPathFinder):
    """Find the modules that have stages, and have them traced once they are loaded."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in TRACED:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        assert spec is not None and spec.loader is not None, "it is a module of the package"
        load = spec.loader.exec_module

        def exec_module(module: types.ModuleType) -> None:
            load(module)
            trace(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def main() -> None:
    """Carry out the command line of `cspace`."""
    sys.meta_path.insert(0, _Finder())
    _write(stages.START)
    from cspace_jax.main import main as command

    command()


if __name__ == "__main__":
    main()

"""cspace_jax trains a grid of diffusion models as one program and follows the learning of each in concept space.

    import cspace_jax as cs

    config = cs.load_config("signal:quick", seeds=(0, 1, 2))
    study = cs.run(config, "runs/signal")
    study.dataset  # xarray: run, step, protocol, klass, concept

Every name below is public; all else can be imported and may change. Names are loaded when they are first used, so that
the import itself starts nothing and takes no time.
"""

import importlib
from typing import TYPE_CHECKING, Any

_HOMES = {
    "Config": "config",
    "Generator": "data.generator",
    "Model": "pipeline.model",
    "Query": "evaluation.query",
    "Setting": "config.setting",
    "Source": "data.source",
    "Study": "pipeline.study",
    "Target": "evaluation.query",
    "UserError": "errors",
    "compare": "pipeline.compare",
    "figure": "plots.registry",
    "load_config": "pipeline.api",
    "open_study": "pipeline.api",
    "preview": "pipeline.api",
    "protocol": "evaluation.protocols",
    "run": "pipeline.api",
    "summary_block": "analysis.summary_blocks",
}
_NAMESPACES = ("analysis", "data", "evaluation", "model", "plots", "training")

if TYPE_CHECKING:
    from cspace_jax import analysis, data, evaluation, model, plots, training
    from cspace_jax.analysis.summary_blocks import summary_block
    from cspace_jax.config import Config
    from cspace_jax.config.setting import Setting
    from cspace_jax.data.generator import Generator
    from cspace_jax.data.source import Source
    from cspace_jax.errors import UserError
    from cspace_jax.evaluation.protocols import protocol
    from cspace_jax.evaluation.query import Query, Target
    from cspace_jax.pipeline.api import load_config, open_study, preview, run
    from cspace_jax.pipeline.compare import compare
    from cspace_jax.pipeline.model import Model
    from cspace_jax.pipeline.study import Study
    from cspace_jax.plots.registry import figure

__all__ = [
    "Config",
    "Generator",
    "Model",
    "Query",
    "Setting",
    "Source",
    "Study",
    "Target",
    "UserError",
    "analysis",
    "compare",
    "data",
    "evaluation",
    "figure",
    "load_config",
    "model",
    "open_study",
    "plots",
    "preview",
    "protocol",
    "run",
    "set_up",
    "summary_block",
    "training",
]


def __getattr__(name: str) -> Any:
    """Load a public name or namespace when it is first used.

    Raises:
      AttributeError: the name is none of `__all__`.
    """
    if name in _NAMESPACES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names, sorted."""
    return sorted(__all__)


def set_up() -> None:
    """Set up JAX as the command does, before JAX is first used.

    A CPU gets up to two devices, and compiled programs get a cache. `load_config`, `preview` and `run` call it; call it
    yourself where JAX computes something before them.
    """
    from cspace_jax import startup

    startup.set_up_jax()

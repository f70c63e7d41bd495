"""The configuration of one study: its types, checks, conversion to JSON and comparison."""

from cspace_jax.config.concepts import CONCEPTS
from cspace_jax.config.conversion import (
    Difference,
    differences,
    differing_fields,
    fingerprint,
    from_config_dict,
    to_dict,
)
from cspace_jax.config.saving import later_steps, save_steps
from cspace_jax.config.schema import (
    ALL_FIGURES,
    SCALES,
    Config,
    DataConfig,
    DiffusionConfig,
    ElicitConfig,
    EngineConfig,
    EvaluateConfig,
    GridConfig,
    NetworkConfig,
    OptimConfig,
    ProbeConfig,
    SaveConfig,
)

__all__ = [
    "ALL_FIGURES",
    "CONCEPTS",
    "SCALES",
    "Config",
    "DataConfig",
    "Difference",
    "DiffusionConfig",
    "ElicitConfig",
    "EngineConfig",
    "EvaluateConfig",
    "GridConfig",
    "NetworkConfig",
    "OptimConfig",
    "ProbeConfig",
    "SaveConfig",
    "differences",
    "differing_fields",
    "fingerprint",
    "from_config_dict",
    "later_steps",
    "save_steps",
    "to_dict",
]

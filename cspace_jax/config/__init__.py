"""The configuration of one study: typed, checked, written to JSON, compared."""

from cspace_jax.config.conversion import differing_fields, fingerprint, from_config_dict, to_dict
from cspace_jax.config.schema import (
    ALL_FIGURES,
    CONCEPTS,
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
    save_steps,
)

__all__ = [
    "ALL_FIGURES",
    "CONCEPTS",
    "SCALES",
    "Config",
    "DataConfig",
    "DiffusionConfig",
    "ElicitConfig",
    "EngineConfig",
    "EvaluateConfig",
    "GridConfig",
    "NetworkConfig",
    "OptimConfig",
    "ProbeConfig",
    "SaveConfig",
    "differing_fields",
    "fingerprint",
    "from_config_dict",
    "save_steps",
    "to_dict",
]

"""The study `digits` of the package, as a file: cspace_jax/studies/digits.py."""

from cspace_jax.studies.digits import get_config, sweep

__all__ = ["get_config", "sweep"]

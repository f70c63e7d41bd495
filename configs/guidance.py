"""The study `guidance` of the package, as a file: cspace_jax/studies/guidance.py."""

from cspace_jax.studies.guidance import get_config, sweep

__all__ = ["get_config", "sweep"]

"""The study `underspec` of the package, as a file: cspace_jax/studies/underspec.py."""

from cspace_jax.studies.underspec import get_config, sweep

__all__ = ["get_config", "sweep"]

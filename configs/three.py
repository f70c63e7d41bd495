"""The study `three` of the package, as a file: cspace_jax/studies/three.py."""

from cspace_jax.studies.three import get_config, sweep

__all__ = ["get_config", "sweep"]

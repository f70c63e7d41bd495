"""The study `hidden` of the package, as a file: cspace_jax/studies/hidden.py."""

from cspace_jax.studies.hidden import get_config, sweep

__all__ = ["get_config", "sweep"]

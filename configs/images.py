"""The study `images` of the package, as a file: cspace_jax/studies/images.py."""

from cspace_jax.studies.images import get_config, sweep

__all__ = ["get_config", "sweep"]

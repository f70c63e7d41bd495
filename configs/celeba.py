"""The study `celeba` of the package, as a file: cspace_jax/studies/celeba.py."""

from cspace_jax.studies.celeba import get_config, sweep

__all__ = ["get_config", "sweep"]

"""Underspecification: part of a class's images hide their colour in training (paper section 5, Figs. 7 to 10)."""

from cspace_jax.studies.underspec import get_config, sweep

__all__ = ["get_config", "sweep"]

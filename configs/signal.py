"""Colour sweep: how the colour signal decides when and in which order concepts are learned (Figs. 2, 4, 12 and 13)."""

from cspace_jax.studies.signal import get_config, sweep

__all__ = ["get_config", "sweep"]

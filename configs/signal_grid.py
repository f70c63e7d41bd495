"""Colour and size signal together: learning speed against measured concept signal (Fig. 3)."""

from cspace_jax.studies.signal_grid import get_config, sweep

__all__ = ["get_config", "sweep"]

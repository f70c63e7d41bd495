"""The study `signal_grid` of the package, as a file: cspace_jax/studies/signal_grid.py."""

from cspace_jax.studies.signal_grid import get_config, sweep

__all__ = ["get_config", "sweep"]

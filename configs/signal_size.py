"""The study `signal_size` of the package, as a file: cspace_jax/studies/signal_size.py."""

from cspace_jax.studies.signal_size import get_config, sweep

__all__ = ["get_config", "sweep"]

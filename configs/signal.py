"""The study `signal` of the package, as a file: cspace_jax/studies/signal.py."""

from cspace_jax.studies.signal import get_config, sweep

__all__ = ["get_config", "sweep"]

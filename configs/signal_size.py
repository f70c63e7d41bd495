"""Size sweep: the counterpart of `signal.py` with the colour signal fixed at 0.4 (Figs. 2, 4, 12 and 13)."""

from cspace_jax.studies.signal_size import get_config, sweep

__all__ = ["get_config", "sweep"]

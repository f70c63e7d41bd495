"""What all studies share: every field at the paper's value, and the two smaller scales as changes to it."""

from cspace_jax.studies.base import get_config, sweep

__all__ = ["get_config", "sweep"]

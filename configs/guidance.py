"""Classifier-free guidance: does a stronger weight elicit the unseen class sooner? (Fig. 16)."""

from cspace_jax.studies.guidance import get_config, sweep

__all__ = ["get_config", "sweep"]

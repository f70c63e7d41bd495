"""Natural faces: CelebA with two attributes, the unseen class being female and smiling (appendix C.3, Fig. 14)."""

from cspace_jax.studies.celeba import get_config, sweep

__all__ = ["get_config", "sweep"]

"""Real handwritten digits: the paper's graded colour signal on real shapes, and two concepts that nobody drew."""

from cspace_jax.studies.digits import get_config, sweep

__all__ = ["get_config", "sweep"]

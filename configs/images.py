"""Pictures of one's own: when is each concept of their labels learned, and is the unseen class drawn?"""

from cspace_jax.studies.images import get_config, sweep

__all__ = ["get_config", "sweep"]

"""Hidden capabilities: when can a model draw the unseen class, and when does it when simply asked (Figs. 6, 12, 17)."""

from cspace_jax.studies.hidden import get_config, sweep

__all__ = ["get_config", "sweep"]

"""The swept numbers of a run form a pytree that is stacked over runs, traced and vmapped."""

import jax

from cspace_jax.config.swept import MAX_SEED, SWEPT, Setting

__all__ = ["MAX_SEED", "SWEPT", "Setting"]

jax.tree_util.register_dataclass(Setting)

"""The numbers that differ between the runs of a grid, as a pytree: stacked over runs, traced, vmapped."""

import jax

from cspace_jax.config.swept import MAX_SEED, SWEPT, Setting

__all__ = ["MAX_SEED", "SWEPT", "Setting"]

jax.tree_util.register_dataclass(Setting)

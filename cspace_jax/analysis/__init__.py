"""Pure functions of the labelled dataset: curves, learning times, statistics over seeds, claims, the summary."""

from cspace_jax import lazy

__getattr__, __dir__ = lazy.modules(__name__, __path__)

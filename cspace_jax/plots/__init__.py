"""Figures: each function takes the dataset (and images) and returns a Matplotlib figure; `style.save` writes it."""

from cspace_jax import lazy

__getattr__, __dir__ = lazy.modules(__name__, __path__)

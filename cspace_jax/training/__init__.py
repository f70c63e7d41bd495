"""The training of one run: its loss, its optimiser, its step."""

from cspace_jax import lazy

__getattr__, __dir__ = lazy.modules(__name__, __path__)

"""What is asked of a model and read off its samples: prompts, protocols, sampling, the probe, losses."""

from cspace_jax import lazy

__getattr__, __dir__ = lazy.modules(__name__, __path__)

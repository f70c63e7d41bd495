"""What is asked of a model and read off its samples: prompts, protocols, sampling, the probe, losses."""

from cspace_jax import lazy

__getattr__, __dir__ = lazy.modules(
    __name__, ("embeddings", "losses", "probe", "prompts", "protocols", "query", "reading", "sampling", "spec")
)

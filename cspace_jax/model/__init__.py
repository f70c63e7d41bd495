"""The networks: the conditional U-Net, its layers, the variational diffusion model, weights of the reference."""

from cspace_jax import lazy

__getattr__, __dir__ = lazy.modules(__name__, __path__)

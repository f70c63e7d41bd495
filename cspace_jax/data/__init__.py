"""Sources of images: the data-generating process, classes, data sets, masking and the concept signal."""

from cspace_jax.data.prompting import prompt

__all__ = ["prompt"]

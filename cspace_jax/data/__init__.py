"""The data-generating process: concepts, classes, images, data sets, masking and the concept signal."""

from cspace_jax.data.concepts import prompt

__all__ = ["prompt"]

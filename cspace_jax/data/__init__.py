"""Sources of images: the data-generating process, classes, data sets, masking and the concept signal."""

from cspace_jax import lazy
from cspace_jax.data.prompting import prompt

__all__ = ["prompt"]
__getattr__, __dir__ = lazy.modules(__name__, __path__, __all__)

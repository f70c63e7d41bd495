"""How a network's blocks represent concepts: cosines between embeddings of concepts, and their drift over training.

An embedding is what a residual block adds for a conditioning vector (`unet.project_conditioning`). Sources: paper
appendix C.6 (embeddings as representations of concepts); the quantities are those of the reference implementation.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from cspace_jax.config.setting import Setting
from cspace_jax.data.classes import Classes
from cspace_jax.data.source import Source
from cspace_jax.model import unet
from cspace_jax.training.run import TrainSpec


@struct.dataclass
class Embeddings:
    """A run's embeddings at one checkpoint, measured.

    Attributes:
      embedding_cosine: cosine between the embeddings of two single concepts by block, [block, v, v]; NaN where an
        embedding is zero, as in a zero-initialised network before its first step.
      embedding_classes: embeddings of the held-out classes at their means, all blocks in a row [k, sum of widths].
    """

    embedding_cosine: jax.Array
    embedding_classes: jax.Array


def vector_names(classes: Classes) -> tuple[str, ...]:
    """Return the words of the single concepts, such as ("red", "blue", "large", "small"), in the order of v."""
    return tuple(word for words in classes.words for word in words)


def concept_vectors(source: Source, setting: Setting) -> Float[Array, "v d"]:
    """Return conditioning vectors [v, d] that are zero but for one concept at the mean of one of its values.

    The value varies fastest.

    At a colour signal of .2 and a size signal of .3 they are the published (.4, .4, .6), (.6, .4, .4), .3 and .6.
    """
    means, classes, slices = source.means(setting), source.classes, source.layout.slices
    empty = jnp.zeros(source.layout.dim)
    chosen = [
        (slices[name], means[np.argmax(classes.bits[:, i] == bit)])
        for i, name in enumerate(classes.active)
        for bit in (0, 1)
    ]
    return jnp.stack([empty.at[entries].set(mean[entries]) for entries, mean in chosen])


def measure(spec: TrainSpec, params: dict, setting: Setting) -> Embeddings:
    """Measure the embeddings of a run's parameters.

    Args:
      spec: static description of the training: its source and its network.
      params: parameters of the run.
      setting: the run's numbers.
    """
    source, network = spec.source, spec.vdm.network
    asked = source.means(setting)[np.array(source.classes.held_out_ids)]
    vectors = concept_vectors(source, setting)
    projected = unet.project_conditioning(network, params["network"], jnp.concatenate([vectors, asked]))
    number = len(vectors)
    units = [h[:number] / jnp.linalg.norm(h[:number], axis=-1, keepdims=True) for h in projected.values()]
    return Embeddings(
        embedding_cosine=jnp.stack([unit @ unit.T for unit in units]),
        embedding_classes=jnp.concatenate([h[number:] for h in projected.values()], axis=-1),
    )

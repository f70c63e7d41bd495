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
from cspace_jax.data.concepts import BIT_NAMES, CONDITIONING_DIM, SLICES, classes, mean_conditionings, ranges_of
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


def vector_names(active: tuple[str, ...]) -> tuple[str, ...]:
    """Return the words of the single concepts, such as ("red", "blue", "large", "small"), in the order of v."""
    return tuple(word for name in active for word in BIT_NAMES[name])


def concept_vectors(active: tuple[str, ...], setting: Setting) -> Float[Array, "v 11"]:
    """Return conditioning vectors that are zero but for one concept at the mean of one of its values, value fastest.

    At a colour signal of .2 and a size signal of .3 they are the published (.4, .4, .6), (.6, .4, .4), .3 and .6.
    """
    means = mean_conditionings(active, ranges_of(setting))
    bits = classes(active).bits
    empty = jnp.zeros(CONDITIONING_DIM)
    chosen = [(name, means[np.argmax(bits[:, i] == bit)]) for i, name in enumerate(active) for bit in (0, 1)]
    return jnp.stack([empty.at[SLICES[name]].set(mean[SLICES[name]]) for name, mean in chosen])


def measure(spec: TrainSpec, params: dict, setting: Setting) -> Embeddings:
    """Measure the embeddings of a run's parameters."""
    active, network = spec.data.active, spec.vdm.network
    means = mean_conditionings(active, ranges_of(setting))
    asked = means[np.array(classes(active).held_out_ids)]
    vectors = concept_vectors(active, setting)
    projected = unet.project_conditioning(network, params["network"], jnp.concatenate([vectors, asked]))
    number = len(vectors)
    units = [h[:number] / jnp.linalg.norm(h[:number], axis=-1, keepdims=True) for h in projected.values()]
    return Embeddings(
        embedding_cosine=jnp.stack([unit @ unit.T for unit in units]),
        embedding_classes=jnp.concatenate([h[number:] for h in projected.values()], axis=-1),
    )

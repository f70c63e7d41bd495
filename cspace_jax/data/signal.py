"""Concept signal: how strongly a concept moves the pixels (paper, definition 3, and its operational forms).

Three measures, each one number for every active concept, in the order of the study's concepts:

* `pixel_signal`: mean squared pixel difference of two classes that differ in that concept alone, at the class means
  (the operational form of the reference implementation, `calc_mse_pix`);
* `range_signal`: the same on images drawn from the training ranges (its "concept gradient");
* `jacobian_signal`: the norm |dG / dz_i| of definition 3 itself.

Pairs of images share everything but the class: position, background, spread inside the class range and pixel noise.
"""

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from cspace_jax.config.concepts import CONCEPTS
from cspace_jax.config.setting import Setting
from cspace_jax.data import rendering
from cspace_jax.data.classes import Classes
from cspace_jax.data.concepts import ConceptVector

if TYPE_CHECKING:
    from cspace_jax.data.generated import Generated
    from cspace_jax.data.renderer import Renderer

CHUNK = 16  # paired images compared at once: bounds the memory of many runs under vmap


def distance_matrix(images: Float[Array, "k n h w c"]) -> Float[Array, "k k"]:
    """Return d[i, j], the mean over images, pixels and channels of (x_i - x_j)^2, of paired images of k classes.

    Units: squared brightness, 0 to 1. Image m of every class must share its nuisance variables with image m of the
    others.
    """
    one_to_all = jax.vmap(lambda a, b: jnp.mean((a - b) ** 2), in_axes=(None, 0))
    return jax.vmap(one_to_all, in_axes=(0, None))(images, images)


def concept_distances(classes: Classes, distances: Float[Array, "k k"], trained_only: bool = True) -> Array:
    """Average d[i, j] over the pairs of classes that differ in one concept alone; returns [concept].

    `trained_only` keeps the pairs of classes seen in training, as the reference implementation's "concept gradient"
    does. All pairs count otherwise, and for a concept in which no two training classes differ alone.
    """
    differ = classes.bits[:, None] != classes.bits[None, :]  # [k, k, concept]
    pairs = differ & (differ.sum(axis=-1, keepdims=True) == 1)
    if trained_only:
        seen = pairs & (classes.trained[:, None] & classes.trained[None, :])[..., None]
        pairs = np.where(seen.any(axis=(0, 1)), seen, pairs)  # a choice of held-out classes may leave no such pair
    weights = pairs / pairs.sum(axis=(0, 1))
    return jnp.einsum("ij,ijc->c", distances, weights, precision=jax.lax.Precision.HIGHEST)


def paired_items(source: "Generated", setting: Setting, n: int, key: Key[Array, ""], *, at_mean: bool) -> Any:
    """Draw n images of every class from one key, as `Items` whose leaves are [k, n, ...].

    They differ between classes in the class alone. `at_mean` places them at the exact class means, otherwise in the
    training ranges.
    """
    draw = jax.vmap(lambda klass: source.draw(setting, jnp.full(n, klass), key, at_mean=at_mean))
    return draw(jnp.arange(source.classes.num))


def pixel_distances(
    source: "Generated", setting: Setting, key: Key[Array, ""], n: int = 128, at_mean: bool = True
) -> Float[Array, "k k"]:
    """Return the paired mean squared pixel distances [k, k] between all classes, over n images a class.

    Pure; setting and key may be traced. `key` is a "signal" stream, in studies that of seed 0 for all runs. Source:
    reference implementation (`calc_mse_pix`, n = 128; the x axis of the paper's figure 3 comes from this matrix).
    """

    def one_image(all_classes: Any) -> Array:
        return distance_matrix(source.images((), all_classes)[:, None])

    paired = paired_items(source, setting, n, key, at_mean=at_mean)
    by_image = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), paired)
    return jax.lax.map(one_image, by_image, batch_size=CHUNK).mean(axis=0)


def pixel_signal(
    source: "Generated", setting: Setting, key: Key[Array, ""], n: int = 128, trained_only: bool = True
) -> Float[Array, "concept"]:
    """Return the concept signal as paired pixel MSE at the class means, one number an active concept.

    Units are squared brightness, 0 to 1. Averaged over the pairs of training classes that differ in the concept alone;
    over all such pairs without `trained_only` or where there are none.
    """
    return concept_distances(source.classes, pixel_distances(source, setting, key, n), trained_only)


def range_signal(
    source: "Generated", setting: Setting, key: Key[Array, ""], n: int = 512, trained_only: bool = True
) -> Float[Array, "concept"]:
    """Return the "concept gradient" [concept]: the paired pixel MSE on the training ranges instead of the class means.

    The reference implementation takes 2,048 images a class; fewer give the same value within a few per cent.
    """
    return concept_distances(source.classes, pixel_distances(source, setting, key, n, at_mean=False), trained_only)


def smooth_render(
    cv: ConceptVector, image_size: int, blur: float, edge: jax.typing.ArrayLike = 0.5
) -> Float[Array, "*b h w 3"]:
    """Render images as `rendering.render` does, with edges that can be differentiated.

    The 0/1 mask has derivative zero almost everywhere in size, x and y. Here every edge is a logistic function of the
    distance to it, of scale `edge` pixels (> 0; a tenth to nine tenths within 4.4 edge); `edge` to 0 gives the hard
    mask before the same blur. A triangle is the product of its three edges. `cv.shape` may be any number in [0, 1]:
    the mask is mixed linearly between circle (0) and triangle (1). These choices are ours; the reference has no
    Jacobian.
    """
    width = edge * 2 / (image_size - 1)
    dx, dy = rendering.offsets(cv, image_size)
    radius, shape = cv.size[..., None, None], jnp.asarray(cv.shape, jnp.float32)[..., None, None]
    # The tiny term keeps the gradient of the square root finite at a pixel in the exact centre.
    circle = jax.nn.sigmoid((radius - jnp.sqrt(dx**2 + dy**2 + 1e-12)) / width)
    base, left, right = rendering.triangle_edges(dx, dy, radius)
    slope_norm = float(np.sqrt(5))  # turns a difference in y into a distance from an edge of slope 2
    edges = (base, left / slope_norm, right / slope_norm)
    triangle = math.prod(jax.nn.sigmoid(distance / width) for distance in edges)
    return rendering.mix(rendering.blur_mask(circle + shape * (triangle - circle), blur), cv)


def jacobian(cv: ConceptVector, image_size: int, blur: float, edge: jax.typing.ArrayLike = 0.5) -> ConceptVector:
    """Return dG / dz of ONE concept vector (scalar fields) through `smooth_render`.

    Each field holds the derivative of the image by that concept: [h, w, 3], and [h, w, 3, 3] for the colours. The shape
    counts as a number from 0 (circle) to 1 (triangle). Units: brightness per unit of the concept.
    """
    cv = dataclasses.replace(cv, shape=jnp.asarray(cv.shape, jnp.float32))
    return jax.jacfwd(lambda z: smooth_render(z, image_size, blur, edge))(cv)


def jacobian_norms(
    cv: ConceptVector, image_size: int, blur: float, edge: jax.typing.ArrayLike = 0.5
) -> Float[Array, "b concept"]:
    """Return |dG / dz_i| [b, 6] of concept vectors [b], columns in the order of `CONCEPTS` (paper, definition 3).

    L2 norm over pixels and channels, and over the three channels of a colour concept (Frobenius norm). Brightness per
    unit of the concept. For colour and background it does not depend on the edges' derivative: sqrt(3) times the norm
    of the blurred mask m, and of 1 - m.
    """

    def norms(one: ConceptVector) -> Array:
        derivative = jacobian(one, image_size, blur, edge)
        return jnp.stack([jnp.linalg.norm(getattr(derivative, name).ravel()) for name in CONCEPTS])

    return jax.vmap(norms)(cv)


def jacobian_signal(
    source: "Renderer", setting: Setting, key: Key[Array, ""], n: int = 32, edge: jax.typing.ArrayLike = 0.5
) -> Float[Array, "concept"]:
    """Return the mean of |dG / dz_i| over images of the training classes, one number an active concept.

    Of each class n images at its class means are drawn. `key` is a "signal" stream, `edge` the softness in
    pixels of `smooth_render`. A derivative knows nothing of the distance between classes: colour's value depends on
    sep_size but not on sep_col, unlike that of `pixel_signal`.
    """
    data = source.data
    drawn = source.draw(setting, jnp.repeat(jnp.asarray(source.classes.train_ids), n), key, at_mean=True)
    norms = jacobian_norms(drawn.cv, data.image_size, data.blur, edge)
    return norms.mean(axis=0)[np.array([CONCEPTS.index(name) for name in data.active])]

"""Rendering: a concept vector z becomes an image, the G of the paper.

Pure functions that may be jitted and vmapped. Images are [..., h, w, 3] float32 in [0, 1] where h IS THE x COORDINATE:
plots transpose and put the origin at the bottom. Source: reference implementation (the paper's appendix A.1 gives the
outline).
"""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from cspace_jax import rng
from cspace_jax.data.concepts import ConceptVector

IMAGE_NOISE = 1e-3  # standard deviation of the pixel noise of every image


@lru_cache
def blur_matrix(size: int, sigma: float) -> np.ndarray:
    """Return the [size, size] float32 matrix that blurs one image axis; `sigma` in pixels, 0 gives the identity.

    Gaussian, cut at 4 sigma, mirrored at the border (half-sample symmetric): SciPy's `gaussian_filter` with its
    defaults.
    """
    identity = np.eye(size)
    if sigma == 0:
        return identity.astype(np.float32)
    from scipy import ndimage  # takes a fifth of a second to load

    return ndimage.gaussian_filter1d(identity, sigma, axis=0, mode="reflect", truncate=4.0).astype(np.float32)


def blur_mask(mask: Float[Array, "*b h w"], sigma: float) -> Float[Array, "*b h w"]:
    """Blur square masks with a Gaussian of `sigma` pixels (0 = unchanged) as two small matrix products."""
    if sigma == 0:
        return mask
    kernel = jnp.asarray(blur_matrix(mask.shape[-1], sigma))
    return jnp.einsum("ij,...jk,lk->...il", kernel, mask, kernel, precision=jax.lax.Precision.HIGHEST)


def pixel_centers(size: int) -> np.ndarray:
    """Return the coordinates [size] of pixel centres along an axis: the outermost lie on the borders -1 and 1."""
    return np.linspace(-1, 1, size, dtype=np.float32)


def offsets(cv: ConceptVector, image_size: int) -> tuple[Float[Array, "*b h 1"], Float[Array, "*b 1 w"]]:
    """Return the distances dx and dy of every pixel from the object's centre, ready to broadcast over the image."""
    centers = jnp.asarray(pixel_centers(image_size))
    return centers[:, None] - cv.x[..., None, None], centers[None, :] - cv.y[..., None, None]


def triangle_side(radius: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Return base and height L of the triangle of "size" `radius`.

    L is the side of the equilateral triangle with the circle's area; the drawn triangle has base L AND height L, so its
    area is L^2 / 2 = 3.63 radius^2 (reference implementation).
    """
    return float(np.sqrt(4 * np.pi / np.sqrt(3))) * radius


def triangle_edges(dx: Array, dy: Array, radius: Array) -> tuple[Array, Array, Array]:
    """Return how far inside base, left and right edge of a triangle pixels lie: differences in y, positive inside."""
    side = triangle_side(radius)
    base = side * float(np.sqrt(3) / 6)
    top = side - base
    return dy + base, 2 * dx + top - dy, -2 * dx + top - dy


def hard_mask(cv: ConceptVector, image_size: int, triangles: bool = True) -> Float[Array, "*b h w"]:
    """Return the 0/1 mask of every object before blurring; `triangles=False` draws circles whatever `cv.shape`."""
    dx, dy = offsets(cv, image_size)
    radius = cv.size[..., None, None]
    inside = dx**2 + dy**2 < radius**2
    if triangles:
        base, left, right = triangle_edges(dx, dy, radius)
        inside_triangle = (base > 0) & (left > 0) & (right > 0)
        inside = jnp.where(cv.shape[..., None, None] == 1, inside_triangle, inside)
    return inside.astype(jnp.float32)


def mix(mask: Float[Array, "*b h w"], cv: ConceptVector) -> Float[Array, "*b h w 3"]:
    """Return the image that shows the object's colour where `mask` is 1 and the background where it is 0."""
    background = cv.bg_color[..., None, None, :]
    return background + mask[..., None] * (cv.color[..., None, None, :] - background)


def render(cv: ConceptVector, image_size: int, blur: float, triangles: bool = True) -> Float[Array, "*b h w 3"]:
    """Render noiseless images [..., h, w, 3] in [0, 1] of concept vectors with any leading axes.

    `blur` is a standard deviation in pixels (0 = none) and the only anti-aliasing. `triangles=False` (static) skips the
    triangle where the shape is known to be a circle. Objects may be cropped by the border.
    """
    return mix(blur_mask(hard_mask(cv, image_size, triangles), blur), cv)


def add_noise(
    image: Float[Array, "*b h w c"], key: Key[Array, "*b"], scale: jax.typing.ArrayLike = IMAGE_NOISE
) -> Float[Array, "*b h w c"]:
    """Add pixel noise of standard deviation `scale`, each image from its own key, and clip to [0, 1].

    `key` has the leading axes of `image`. The noise of an image depends on its key alone, not on the batch it is in.
    """
    # Flat draws compile four times faster than shaped ones and give the same numbers.
    noise = jax.vmap(lambda k: rng.normal(k, image.shape[-3:]))(key.reshape(-1))
    return jnp.clip(image + scale * noise.reshape(image.shape), 0.0, 1.0)

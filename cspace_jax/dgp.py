"""The data-generating process: concept vectors are drawn, rendered to images, and grouped into data sets.

All functions are pure and may be jitted and vmapped over settings and keys. Images are [..., h, w, 3] float32 in [0,
1] where h IS THE x COORDINATE: plots transpose and put the origin at the bottom. Source: reference implementation
(the paper's appendix A.1 gives the outline).
"""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int, Key
from scipy import ndimage

from cspace_jax import concepts, rng
from cspace_jax.concepts import ConceptVector, Ranges
from cspace_jax.config import DataConfig
from cspace_jax.setting import Setting

IMAGE_NOISE = 1e-3  # standard deviation of the pixel noise of every image
POSITION_RANGE = 0.5  # x and y of an object are uniform in +- this where they are not concepts
# Columns of the uniform numbers of an image. They are part of the results: never renumber.
_POSITION, _COLOR, _SIZE, _BG_COLOR, _COINS, _DRAWS = slice(0, 2), slice(2, 5), 5, slice(6, 9), slice(9, 11), 11


@struct.dataclass
class Dataset:
    """Hold images as the concepts and noise keys they are rendered from: 52 bytes each, where pixels take 12 kB."""

    cv: ConceptVector  # [n]
    klass: Int[Array, "n"]
    noise_key: Key[Array, "n"]  # one an image, so that the image has the same noise each time it comes round
    masked: Bool[Array, "n"] | None = None  # images that hide a concept in training (masking.py)

    def take(self, index: Int[Array, "b"]) -> "Dataset":
        """Return the images at `index` [b] as a smaller data set."""
        return jax.tree.map(lambda leaf: leaf[index], self)


def sample_concepts(
    key: Key[Array, ""], ranges: Ranges, bits: Int[Array, "n concept"], active: tuple[str, ...], at_mean: bool
) -> ConceptVector:
    """Draw the concept vectors [n] of images whose classes are given as `bits`, columns in the order of `active`.

    Training samples (`at_mean=False`) are uniform in the class range, x and y normal around the class mean. Test
    samples (`at_mean=True`) sit at the exact class means, with background .9 where that is no concept. Inactive
    concepts: the shape is a circle, x and y are uniform in +-.5 and the background in [.8, 1]. Source: reference
    implementation. Inactive colour or size: a fair coin between the two class ranges, then uniform in it, also for
    test samples. That is a reconstruction: no code for such data is published (paper section 5 has a varying size
    with shape and colour active).
    """
    bit = {name: bits[:, active.index(name)] for name in active}
    uniform_key, normal_key = jax.random.split(key)
    # One flat call for all uniform numbers: further calls, and calls with more axes, add seconds to compile time.
    u = 2 * jax.random.uniform(uniform_key, (len(bits) * _DRAWS,)).reshape(-1, _DRAWS) - 1
    coins = (u[:, _COINS] > 0).astype(jnp.int32)
    x, y = _positions(u[:, _POSITION], normal_key, bit, ranges, at_mean)
    return ConceptVector(
        shape=jnp.asarray(bit.get("shape", jnp.zeros(len(bits))), jnp.int32),
        x=x,
        y=y,
        color=_color(u[:, _COLOR], bit.get("color"), coins[:, 0], ranges, at_mean),
        size=_size(u[:, _SIZE], bit.get("size"), coins[:, 1], ranges, at_mean),
        bg_color=_background(u[:, _BG_COLOR], bit.get("bg_color"), ranges, at_mean),
    )


def _positions(u: Array, key: Array, bit: dict[str, Array], ranges: Ranges, at_mean: bool) -> Float[Array, "2 n"]:
    position = POSITION_RANGE * u.T
    for row, name in enumerate(("x", "y")):
        if name in bit:
            normal = jax.random.normal(jax.random.fold_in(key, row), (len(u),))
            spread = 0.0 if at_mean else ranges.position_std * normal
            position = position.at[row].set(ranges.position_mean[bit[name]] + spread)
    return position


def _color(u: Array, bit: Array | None, coin: Array, ranges: Ranges, at_mean: bool) -> Float[Array, "n 3"]:
    mean = ranges.color_mean[coin if bit is None else bit]
    if at_mean and bit is not None:
        return mean
    return mean + ranges.color_half_width * u


def _size(u: Array, bit: Array | None, coin: Array, ranges: Ranges, at_mean: bool) -> Float[Array, "n"]:
    mean = ranges.size_mean[coin if bit is None else bit]
    if at_mean and bit is not None:
        return mean
    low = jnp.maximum(mean - ranges.size_half_width, concepts.MIN_SIZE)
    high = jnp.maximum(mean + ranges.size_half_width, concepts.MIN_SIZE)
    return low + (high - low) * (u + 1) / 2


def _background(u: Array, bit: Array | None, ranges: Ranges, at_mean: bool) -> Float[Array, "n 3"]:
    low, high = concepts.NEUTRAL_BG
    if bit is not None:
        mean, half_width = ranges.bg_mean[bit], ranges.bg_half_width
    else:
        mean, half_width = jnp.full(u.shape, (low + high) / 2), (high - low) / 2
    return mean if at_mean else mean + half_width * u


@lru_cache
def blur_matrix(size: int, sigma: float) -> np.ndarray:
    """Return the [size, size] float32 matrix that blurs one image axis; `sigma` in pixels, 0 gives the identity.

    Gaussian, cut at 4 sigma, mirrored at the border (half-sample symmetric): SciPy's `gaussian_filter` with its
    defaults.
    """
    identity = np.eye(size)
    if sigma == 0:
        return identity.astype(np.float32)
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


def images(dataset: Dataset, data: DataConfig) -> Float[Array, "b h w 3"]:
    """Render the noisy images [b, h, w, 3] of a data set or of a slice of it."""
    clean = render(dataset.cv, data.image_size, data.blur, triangles="shape" in data.active)
    return add_noise(clean, dataset.noise_key)


def conditionings(dataset: Dataset, data: DataConfig) -> Float[Array, "b 11"]:
    """Return the conditioning vectors [b, 11] of a data set or of a slice of it."""
    return concepts.conditioning(dataset.cv, data.active)


def draw_dataset(
    key: Key[Array, ""], ranges: Ranges, klass: Int[Array, "n"], active: tuple[str, ...], at_mean: bool
) -> Dataset:
    """Draw one image for every entry of `klass` (class indices [n]) and return the `Dataset` in the same order."""
    concept_key, noise_key = jax.random.split(key)
    bits = jnp.asarray(concepts.classes(active).bits)[klass]
    cv = sample_concepts(concept_key, ranges, bits, active, at_mean)
    return Dataset(cv=cv, klass=klass, noise_key=jax.random.split(noise_key, len(klass)))


def make_dataset(key: Key[Array, ""], setting: Setting, data: DataConfig) -> tuple[Dataset, Dataset]:
    """Draw the images of the training classes and split them at random into (training set, validation set).

    `key` is the run's "data" stream. Sizes are static: floor(train_ratio * n) and the rest of the n = training
    classes x images_per_class images. The set is fixed: the same concepts and noise each time an image comes round.
    """
    pool_key, split_key = jax.random.split(jax.random.fold_in(key, 0))
    klass = _repeat(concepts.classes(data.active).train_ids, data.images_per_class)
    pool = draw_dataset(pool_key, _ranges(setting), klass, data.active, at_mean=False)
    order = jax.random.permutation(split_key, data.pool_images)
    return pool.take(order[: data.train_images]), pool.take(order[data.train_images :])


def generation_conditionings(
    key: Key[Array, ""], setting: Setting, data: DataConfig, per_class: int
) -> Float[Array, "k per_class 11"]:
    """Draw the conditioning vectors that a run is sampled with at every evaluation, `per_class` for each class.

    Training classes are fresh draws from their ranges, held-out classes repeat their exact class means (reference
    implementation). `key` is the run's "data" stream; it is split apart from the training and test sets.
    """
    family, ranges = concepts.classes(data.active), _ranges(setting)
    bits = jnp.asarray(family.bits)[_repeat(range(family.num), per_class)]
    cv = sample_concepts(jax.random.fold_in(key, 1), ranges, bits, data.active, at_mean=False)
    drawn = concepts.conditioning(cv, data.active).reshape(family.num, per_class, concepts.CONDITIONING_DIM)
    return jnp.where(family.trained[:, None, None], drawn, concepts.mean_conditionings(ranges, data.active)[:, None])


def test_set(key: Key[Array, ""], setting: Setting, data: DataConfig) -> Dataset:
    """Draw the images of the held-out classes, at their exact class means, that the test loss is taken on.

    `key` is the run's "data" stream. Size: held-out classes x test_images_per_class, 0 if no class is held out.
    """
    klass = _repeat(concepts.classes(data.active).held_out_ids, data.test_images_per_class)
    return draw_dataset(jax.random.fold_in(key, 2), _ranges(setting), klass, data.active, at_mean=True)


def _ranges(setting: Setting) -> Ranges:
    return concepts.class_ranges(setting.sep_col, setting.sep_size, setting.sep_bg)


def _repeat(ids, times: int) -> Int[Array, "n"]:
    return jnp.asarray(np.repeat(np.asarray(ids, np.int32), times))

"""Random changes of pictures in training: mirroring and the four jitters of colour.

Pure functions of ONE picture [h, w, 3] in [0, 1], axis h is x; every number is drawn from the picture's own key.
Brightness, contrast, saturation and hue come in this order, each clipped to [0, 1]; torchvision's `ColorJitter`, whose
formulas these are, shuffles the four.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

GREY = (0.299, 0.587, 0.114)  # weights of red, green and blue (ITU-R BT.601)


def grey(image: Float[Array, "*b 3"]) -> Float[Array, "*b"]:
    """Return the brightness of every pixel, in [0, 1]."""
    red, green, blue = jnp.moveaxis(image, -1, 0)
    return GREY[0] * red + GREY[1] * green + GREY[2] * blue


def augment(
    image: Float[Array, "h w 3"], key: Key[Array, ""], jitter: tuple[float, float, float, float], flip: bool
) -> Float[Array, "h w 3"]:
    """Return a random variant of a picture.

    Args:
      image: in [0, 1].
      key: of this picture at this step.
      jitter: brightness, contrast and saturation are multiplied by a factor in 1 +- j, the hue (a full turn is 1) moves
        by up to +-j; 0 leaves it alone.
      flip: whether half of the pictures are mirrored left to right.
    """
    flip_key, *keys = jax.random.split(key, 5)
    if flip:
        image = jnp.where(jax.random.bernoulli(flip_key), image[::-1], image)
    for change, amount, one in zip((brightness, contrast, saturation, hue), jitter, keys, strict=True):
        if amount:
            image = change(image, amount * jax.random.uniform(one, minval=-1.0, maxval=1.0))
    return image


def brightness(image: Float[Array, "h w 3"], by: jax.typing.ArrayLike) -> Float[Array, "h w 3"]:
    """Multiply a picture by 1 + `by`."""
    return jnp.clip((1 + by) * image, 0, 1)


def contrast(image: Float[Array, "h w 3"], by: jax.typing.ArrayLike) -> Float[Array, "h w 3"]:
    """Move a picture away from its mean brightness by the factor 1 + `by`."""
    return _away(image, grey(image).mean(), by)


def saturation(image: Float[Array, "h w 3"], by: jax.typing.ArrayLike) -> Float[Array, "h w 3"]:
    """Move every pixel away from its grey by the factor 1 + `by`."""
    return _away(image, grey(image)[..., None], by)


def _away(image: Array, center: Array, by: jax.typing.ArrayLike) -> Array:
    return jnp.clip((1 + by) * image - by * center, 0, 1)


def hue(image: Float[Array, "h w 3"], by: jax.typing.ArrayLike) -> Float[Array, "h w 3"]:
    """Turn the hue of every pixel by `by` of a full turn; saturation and value of HSV stay."""
    most, least = image.max(-1), image.min(-1)
    span = most - least
    safe = jnp.where(span > 0, span, 1.0)
    red, green, blue = jnp.moveaxis(image, -1, 0)
    # Not "most == red": a compiler may compute both anew, with another rounding. Near a tie the formulas agree.
    other = jnp.where(green >= blue, 2 + (blue - red) / safe, 4 + (red - green) / safe)
    sector = jnp.where((red >= green) & (red >= blue), (green - blue) / safe, other)
    turned = (jnp.where(span > 0, sector, 0.0) + 6 * by) % 6

    def channel(offset: float) -> Array:
        # HSV to RGB by the distance of the hue from the channel's own (the formula "f(n)" of HSV).
        k = (offset + turned) % 6
        return most - span * jnp.clip(jnp.minimum(k, 4 - k), 0, 1)

    return jnp.stack([channel(5.0), channel(3.0), channel(1.0)], axis=-1)

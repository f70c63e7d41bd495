"""Convolutions of the U-Net, in exact formulations that differ in speed.

Which one is fastest is a property of the backend and of how runs are laid out, not of the network.

xla: XLA's convolution and its automatic gradient, for accelerators.
canonical: the same convolution, and gradients that are written as convolutions of the same form. Inside a
  compiled loop on a CPU the automatic gradient is up to a hundred times slower and these are not: as timings suggest,
  XLA brings only convolutions outside of loops into the form that its fast kernels take, and these have it already.
  Images of three channels are gathered into patches for one product of matrices instead.
winograd: canonical, but Winograd's products (winograd.py) where both sides have at least 64 channels and height and
  width are even, so that 16 products do the work of 36.
matmul: shifted slices and one product of matrices, which `vmap` over runs turns into a batched product and not into
  a grouped convolution.

All tensors are [b, h, w, c], kernels [kh, kw, c_in, c_out].
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cspace_jax.model import winograd

METHODS = ("xla", "canonical", "winograd", "matmul")
_DIMS = ("NHWC", "HWIO", "NHWC")
_WINOGRAD_CHANNELS = 64
_VECTOR = 16  # float32 numbers in a CPU's vector register
_NARROW = 3  # channels of an image


def _convolve(x: jax.Array, kernel: jax.Array, stride: int = 1, padding: int = 1) -> jax.Array:
    window = ((padding, padding), (padding, padding))
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), window, dimension_numbers=_DIMS)


def _convolve_or_gather(x: jax.Array, kernel: jax.Array) -> jax.Array:
    # So few channels are better gathered into patches: the fast kernels of a CPU leave most of a vector empty.
    return _matmul_3x3(x, kernel) if x.shape[-1] <= _NARROW else _convolve(x, kernel)


@jax.custom_vjp
def _conv_3x3_canonical(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return _convolve_or_gather(x, kernel)


def _canonical_forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _convolve_or_gather(x, kernel), (x, kernel)


def _canonical_backward(residuals: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = residuals
    return _convolve_or_gather(g, _turned(kernel)), _kernel_gradient(x, g)


def _kernel_gradient(x: jax.Array, g: jax.Array) -> jax.Array:
    # The wider of the two is best slid over the other, as long as the other's channels fill a vector.
    c_in, c_out = x.shape[-1], g.shape[-1]
    slide_x = c_in >= c_out if min(c_in, c_out) >= _VECTOR else c_in < c_out
    return _correlate(x, g) if slide_x else _turned(_correlate(g, x))


def _correlate(x: jax.Array, g: jax.Array) -> jax.Array:
    """Return the correlation [3, 3, m, n] of x [b, h, w, m] with g [b, h, w, n].

    x slides over g, with the batch in the place of the channels.
    """
    return _convolve(x.transpose(3, 1, 2, 0), g.transpose(1, 2, 0, 3)).transpose(1, 2, 0, 3)


_conv_3x3_canonical.defvjp(_canonical_forward, _canonical_backward)


@jax.custom_vjp
def _conv_3x3_winograd(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return winograd.convolve(x, kernel)


def _winograd_forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return winograd.convolve(x, kernel), (x, kernel)


def _winograd_backward(residuals: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    return winograd.gradients(*residuals, g)


_conv_3x3_winograd.defvjp(_winograd_forward, _winograd_backward)


def gains_by_winograd(height: int, width: int, entering: int, features: int) -> bool:
    """Return whether "winograd" computes a 3x3 convolution by Winograd's products: wide enough, on even sides."""
    # With fewer channels the maps around the products cost more than the products save.
    return min(entering, features) >= _WINOGRAD_CHANNELS and height % 2 == width % 2 == 0


def _turned(kernel: jax.Array) -> jax.Array:
    """Turn a kernel by 180 degrees and exchange its channels: the kernel of the gradient with respect to the input."""
    return kernel[::-1, ::-1].swapaxes(2, 3)


def _patches(x: jax.Array) -> jax.Array:
    """Gather the 3x3 zero-padded neighbourhoods: [b, h, w, c] -> [b, h, w, 9 c], kernel rows slowest."""
    h, w = x.shape[1], x.shape[2]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifts = [padded[:, i : i + h, j : j + w, :] for i in range(3) for j in range(3)]
    return jnp.concatenate(shifts, axis=-1)


def _matmul_3x3(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return _patches(x) @ kernel.reshape(-1, kernel.shape[-1])


@jax.custom_vjp
def _conv_3x3_matmul(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return _matmul_3x3(x, kernel)


def _forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _matmul_3x3(x, kernel), (x, kernel)


def _backward(residuals: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    # The automatic gradient scatters each of the nine slices back with a pad and an add. The gradient with respect to
    # x is itself a convolution, with the kernel turned by 180 degrees and its channels exchanged.
    x, kernel = residuals
    c_in, c_out = kernel.shape[2:]
    dx = _matmul_3x3(g, _turned(kernel))
    patches = _patches(x).reshape(-1, 9 * c_in)
    dkernel = patches.T @ g.reshape(-1, c_out)
    return dx, dkernel.reshape(kernel.shape)


_conv_3x3_matmul.defvjp(_forward, _backward)


def conv_3x3(
    x: Float[Array, "b h w ci"], kernel: Float[Array, "3 3 ci co"], method: str = "matmul"
) -> Float[Array, "b h w co"]:
    """Convolve with a 3x3 kernel, stride 1, zero padding; `method` is one of `METHODS`."""
    if method == "xla":
        return _convolve(x, kernel)
    if method == "winograd" and gains_by_winograd(*x.shape[1:3], *kernel.shape[2:]):
        return _conv_3x3_winograd(x, kernel)
    if method in ("canonical", "winograd"):
        return _conv_3x3_canonical(x, kernel)
    return _conv_3x3_matmul(x, kernel)


def conv_2x2_down(
    x: Float[Array, "b h w ci"], kernel: Float[Array, "2 2 ci co"], method: str = "matmul"
) -> Float[Array, "b h2 w2 co"]:
    """Convolve with a 2x2 kernel and stride 2: halves an even height and width. All but "xla" use a matmul."""
    if method == "xla":
        return _convolve(x, kernel, stride=2, padding=0)
    b, h, w, c = x.shape
    blocks = x.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5).reshape(b, h // 2, w // 2, 4 * c)
    return _mix(blocks, kernel.reshape(4 * c, -1))


def conv_2x2_up(
    x: Float[Array, "b h w ci"], kernel: Float[Array, "2 2 ci co"], method: str = "matmul"
) -> Float[Array, "b 2*h 2*w co"]:
    """Return the transposed convolution with a 2x2 kernel and stride 2, which doubles height and width.

    All methods use one matmul: every input pixel makes its own 2x2 block of outputs, and blocks do not overlap.
    """
    del method
    b, h, w, c = x.shape
    c_out = kernel.shape[-1]
    blocks = _mix(x, kernel.transpose(2, 0, 1, 3).reshape(c, 4 * c_out))
    return blocks.reshape(b, h, w, 2, 2, c_out).transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, c_out)


def conv_1x1(x: Float[Array, "b h w ci"], kernel: Float[Array, "1 1 ci co"]) -> Float[Array, "b h w co"]:
    """Mix channels at each pixel."""
    return _mix(x, kernel[0, 0])


def _mix(x: jax.Array, matrix: jax.Array) -> jax.Array:
    # As one product of matrices: the gradient of a product with four axes transposes what flows back once more.
    flat = x.reshape(-1, x.shape[-1]) @ matrix
    return flat.reshape(*x.shape[:-1], matrix.shape[-1])

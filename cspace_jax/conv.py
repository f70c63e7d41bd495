"""Convolutions of the U-Net, each in two exact formulations: XLA's own and shifted slices with one matmul.

Which one is faster is a property of the backend and of how runs are laid out, not of the network: under `vmap` over
runs an XLA convolution becomes a grouped convolution, and inside an XLA:CPU loop it takes a slow path, while the matmul
form becomes a batched matmul. All tensors are [b, h, w, c], kernels [kh, kw, c_in, c_out].
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

METHODS = ("xla", "matmul")
_DIMS = ("NHWC", "HWIO", "NHWC")


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
    dx = _matmul_3x3(g, kernel[::-1, ::-1].swapaxes(2, 3))
    patches = _patches(x).reshape(-1, 9 * c_in)
    dkernel = patches.T @ g.reshape(-1, c_out)
    return dx, dkernel.reshape(kernel.shape)


_conv_3x3_matmul.defvjp(_forward, _backward)


def conv_3x3(
    x: Float[Array, "b h w ci"], kernel: Float[Array, "3 3 ci co"], method: str = "matmul"
) -> Float[Array, "b h w co"]:
    """Convolve with a 3x3 kernel, stride 1, zero padding."""
    if method == "xla":
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=_DIMS)
    return _conv_3x3_matmul(x, kernel)


def conv_2x2_down(
    x: Float[Array, "b h w ci"], kernel: Float[Array, "2 2 ci co"], method: str = "matmul"
) -> Float[Array, "b h2 w2 co"]:
    """Convolve with a 2x2 kernel and stride 2: halves an even height and width."""
    if method == "xla":
        return jax.lax.conv_general_dilated(x, kernel, (2, 2), "VALID", dimension_numbers=_DIMS)
    b, h, w, c = x.shape
    blocks = x.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5).reshape(b, h // 2, w // 2, 4 * c)
    return blocks @ kernel.reshape(4 * c, -1)


def conv_2x2_up(
    x: Float[Array, "b h w ci"], kernel: Float[Array, "2 2 ci co"], method: str = "matmul"
) -> Float[Array, "b 2*h 2*w co"]:
    """Transposed convolution with a 2x2 kernel and stride 2: doubles height and width (no overlap, so one matmul).

    Both methods use the matmul: every input pixel makes its own 2x2 block of outputs.
    """
    del method
    b, h, w, c = x.shape
    c_out = kernel.shape[-1]
    blocks = x @ kernel.transpose(2, 0, 1, 3).reshape(c, 4 * c_out)
    return blocks.reshape(b, h, w, 2, 2, c_out).transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, c_out)


def conv_1x1(x: Float[Array, "b h w ci"], kernel: Float[Array, "1 1 ci co"]) -> Float[Array, "b h w co"]:
    """Mix channels at each pixel."""
    return x @ kernel[0, 0]

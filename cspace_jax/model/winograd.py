"""Winograd's minimal filtering F(2x2, 3x3): a 3x3 convolution and its gradients with 16 products where 36 are usual.

The input is cut into tiles of 4x4 pixels that overlap by two; tiles, kernel and output are related by

    y = A' [(G k G') * (B' x B)] A,    B' = | 1  0 -1  0 |   G = | 1    0    0 |   A' = | 1  1  1  0 |
                                            | 0  1  1  0 |       | 1/2  1/2 1/2|        | 0  1 -1 -1 |
                                            | 0 -1  1  0 |       | 1/2 -1/2 1/2|
                                            | 0  1  0 -1 |       | 0    0    1 |

(' transposes, * multiplies element by element and sums over input channels), so that each of the 16 positions in a tile
is one product of matrices [tiles, c_in] x [c_in, c_out]. Exact in exact arithmetic, with the rounding errors of an
ordinary convolution. Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2016).

Tensors are [b, h, w, c] with even h and w, kernels [3, 3, c_in, c_out]; stride 1, zero padding. What is transformed is
[16, tiles or c_in, channels], rows of the tile slowest.
"""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

Line = Sequence[jax.Array]  # what a map of one dimension gives, position by position
BLOCK_BYTES = 2**19  # of the transformed images that are worked on at once, so that they stay in a core's cache
_SUM_BYTES = 2**18  # of a kernel's transformed gradient, up to which it is summed block by block


def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Return the convolution [b, h, w, c_out] of x [b, h, w, c_in] with a kernel [3, 3, c_in, c_out]."""
    return _by_blocks(x, _transformed(kernel, _kernel_line), 1)


def gradients(x: jax.Array, kernel: jax.Array, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the gradients with respect to x [b, h, w, c_in] and to the kernel [3, 3, c_in, c_out].

    g is the gradient with respect to the output [b, h, w, c_out].
    """
    dx = _by_blocks(g, _transformed(kernel, _turned_kernel_line), 2)
    products = _kernel_products(x, g).reshape(4, 4, *kernel.shape[2:])
    return dx, _along(_along(products, 0, _kernel_line_transposed), 1, _kernel_line_transposed)


def _by_blocks(x: jax.Array, transformed: jax.Array, contracted: int) -> jax.Array:
    """Convolve with a transformed kernel, whose axis `contracted` meets the channels of x.

    Images are taken a few at a time in a compiled loop: what is transformed is four times the image, and what comes out
    of a loop is stored, where the compiler would otherwise compute the last map again for each of its users.
    """

    def convolved(block: jax.Array) -> jax.Array:
        return _pixels(_products(_tiles(block), transformed, (2, contracted)), block.shape)

    y = jax.lax.map(convolved, _blocks_of_images(x, _block_size(x)))
    return y.reshape(len(x), *y.shape[2:])


def _kernel_products(x: jax.Array, g: jax.Array) -> jax.Array:
    """Return the gradient of the transformed kernel, [16, c_in, c_out]."""

    def product(x: jax.Array, g: jax.Array) -> jax.Array:
        return _products(_tiles(x), _output_blocks(g), (1, 1))

    shape = (16, x.shape[-1], g.shape[-1])
    if 4 * math.prod(shape) > _SUM_BYTES:
        return product(x, g)
    size = min(_block_size(x), _block_size(g))
    blocks = (_blocks_of_images(x, size), _blocks_of_images(g, size))
    return jax.lax.scan(lambda total, block: (total + product(*block), None), jnp.zeros(shape, x.dtype), blocks)[0]


def _block_size(x: jax.Array) -> int:
    """Return how many images are worked on at once: a divisor of their number, at most half of it."""
    most = min(BLOCK_BYTES // (16 * math.prod(x.shape[1:])), len(x) // 2)
    return max(n for n in range(1, max(most, 1) + 1) if len(x) % n == 0)


def _blocks_of_images(x: jax.Array, size: int) -> jax.Array:
    return x.reshape(-1, size, *x.shape[1:])


def _products(left: jax.Array, right: jax.Array, contract: tuple[int, int]) -> jax.Array:
    return jax.lax.dot_general(left, right, (((contract[0],), (contract[1],)), ((0,), (0,))))


def _along(x: jax.Array, axis: int, line: Callable[..., Line]) -> jax.Array:
    """Apply a map of one dimension to the positions along an axis."""
    positions = [jax.lax.index_in_dim(x, i, axis, keepdims=False) for i in range(x.shape[axis])]
    return jnp.stack(line(*positions), axis)


def _transformed(kernel: jax.Array, line: Callable[..., Line]) -> jax.Array:
    """Return G k G' with `_kernel_line`, and that of the kernel turned by 180 degrees with `_turned_kernel_line`."""
    return _along(_along(kernel, 0, line), 1, line).reshape(16, *kernel.shape[2:])


def _tiles(x: jax.Array) -> jax.Array:
    """Return B' x B of every tile, [16, tiles, c]."""
    _, h, w, c = x.shape
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows = jnp.stack(_input_line(*(padded[:, i : i + h : 2] for i in range(4))))
    both = jnp.stack(_input_line(*(rows[:, :, :, j : j + w : 2] for j in range(4))), 1)
    return both.reshape(16, -1, c)


def _output_blocks(g: jax.Array) -> jax.Array:
    """Return A g A' of every block of 2x2 pixels, [16, tiles, c]."""
    rows = jnp.stack(_output_line_transposed(*(g[:, i::2] for i in range(2))))
    both = jnp.stack(_output_line_transposed(*(rows[:, :, :, j::2] for j in range(2))), 1)
    return both.reshape(16, -1, g.shape[-1])


def _pixels(products: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Return A' m A of every tile, each at its place in the output [b, h, w, c].

    `shape` is that of the input, which has the same b, h and w.
    """
    b, h, w, _ = shape
    tiles = products.reshape(4, 4, b, h // 2, w // 2, -1)
    rows = [_output_line(*(tiles[i, j] for i in range(4))) for j in range(4)]
    lines = [jnp.stack(_output_line(*(rows[j][i] for j in range(4))), 3) for i in range(2)]
    return jnp.stack(lines, 2).reshape(b, h, w, -1)


def _input_line(x0: jax.Array, x1: jax.Array, x2: jax.Array, x3: jax.Array) -> Line:
    return x0 - x2, x1 + x2, x2 - x1, x1 - x3


def _kernel_line(k0: jax.Array, k1: jax.Array, k2: jax.Array) -> Line:
    return k0, (k0 + k1 + k2) * 0.5, (k0 - k1 + k2) * 0.5, k2


def _turned_kernel_line(k0: jax.Array, k1: jax.Array, k2: jax.Array) -> Line:
    return k2, (k0 + k1 + k2) * 0.5, (k0 - k1 + k2) * 0.5, k0


def _kernel_line_transposed(u0: jax.Array, u1: jax.Array, u2: jax.Array, u3: jax.Array) -> Line:
    half = (u1 + u2) * 0.5
    return u0 + half, (u1 - u2) * 0.5, half + u3


def _output_line(m0: jax.Array, m1: jax.Array, m2: jax.Array, m3: jax.Array) -> Line:
    return m0 + m1 + m2, m1 - m2 - m3


def _output_line_transposed(g0: jax.Array, g1: jax.Array) -> Line:
    return g0, g0 + g1, g0 - g1, -g1

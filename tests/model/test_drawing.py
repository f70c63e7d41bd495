"""Parameters that are drawn together are those that Flax draws one by one."""

import jax
import jax.numpy as jnp
import pytest
import tiny
from flax import linen as nn

from cspace_jax import rng
from cspace_jax.model import drawing, layers, unet

pytestmark = pytest.mark.network
SPEC = unet.UNetSpec(channels=(4,), blocks=1, groups=2, heads=2, conditioning="sep_mlp")


def one_by_one(key):
    """The parameters as Flax's own `init` makes them from a real key."""
    z = jnp.zeros((1, 2, 2, SPEC.in_channels))
    return unet.UNet(SPEC).init({"params": key}, z, jnp.zeros(1), jnp.zeros((1, SPEC.entries)), None)["params"]


def unoptimised(function):
    return jax.jit(function, compiler_options=tiny.COMPILE_FAST)


def loops(compiled):
    """How often a program calls the random generator, which is a loop on a CPU."""
    return compiled.as_text().count(" while(")


@pytest.mark.parametrize("partitionable", [True, False])
def test_a_network_is_drawn_to_the_bit_as_flax_draws_it_with_a_call_of_the_generator_a_size(partitionable):
    key = rng.run_key(3)
    with jax.threefry_partitionable(partitionable):
        ours = unoptimised(lambda key: unet.init_params(SPEC, key)).lower(key).compile()
        theirs = unoptimised(one_by_one).lower(key).compile()
    tiny.assert_same_bits(ours(key), theirs(key))
    sizes = {leaf.size for leaf in jax.tree.leaves(ours(key))}
    assert loops(ours) <= 1 + len(sizes) < loops(theirs) / 2


def test_stacked_networks_are_drawn_as_one_by_one():
    keys = jax.random.split(jax.random.key(0), 3)
    stacked = unoptimised(jax.vmap(lambda key: unet.init_params(SPEC, key)))(keys)
    draw = unoptimised(one_by_one)
    tiny.assert_same_bits(stacked, jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(draw, keys)))


def test_another_initialiser_is_refused_and_not_drawn_otherwise():
    class Normal(nn.Module):
        @nn.compact
        def __call__(self):
            return drawing.parameter(self, "kernel", nn.initializers.normal(), (2,))

    with pytest.raises(TypeError, match="zeros, ones or `uniform`"):
        drawing.init_params(lambda key: Normal().init(key)["params"], jax.random.key(0))


def test_a_parameter_of_another_shape_is_named():
    params = {"kernel": jnp.zeros((3, 2)), "bias": jnp.zeros(5)}
    with pytest.raises(ValueError, match=r"bias has the shape \(5,\), must be \(2,\)"):
        layers.Linear(2).apply({"params": params}, jnp.zeros((1, 3)))

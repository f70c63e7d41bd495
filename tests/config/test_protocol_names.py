"""Names of protocols and of their controls."""

import pytest

from cspace_jax.config import protocol_names


@pytest.mark.parametrize(
    ("name", "kind", "protocol"),
    [
        ("latent", "", "latent"),
        ("latent_random", "_random", "latent"),
        ("latent:color_shuffled", "_shuffled", "latent:color"),
        ("overprompt+guidance_random", "_random", "overprompt+guidance"),
        ("random_walk", "", "random_walk"),
        ("latent_shuffled_random", "_random", "latent_shuffled"),
    ],
)
def test_a_control_is_told_by_the_end_of_its_name(name, kind, protocol):
    assert (protocol_names.control_of(name), protocol_names.controlled(name)) == (kind, protocol)
    assert protocol_names.is_control(name) == bool(kind)

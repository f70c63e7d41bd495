"""The share of each of many processes."""

import pytest

from cspace_jax import processes


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_every_item_is_in_one_share(count):
    shares = [processes.share(range(5), i, count) for i in range(count)]
    assert [item for one in shares for item in one] == list(range(5))
    lengths = [len(one) for one in shares]
    assert max(lengths) - min(lengths) <= 1 and lengths[0] == max(lengths)

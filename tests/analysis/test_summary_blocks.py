"""Blocks of the summary that only some studies have."""

import pytest

from cspace_jax.analysis import summary, summary_blocks


@pytest.fixture
def blocks(monkeypatch):
    monkeypatch.setattr(summary_blocks, "BLOCKS", {})
    monkeypatch.setattr(summary, "BLOCKS", summary_blocks.BLOCKS)
    return summary_blocks.BLOCKS


def test_a_block_stands_in_the_summary_of_those_datasets_that_have_it(blocks, ds):
    @summary_blocks.summary_block("spread", when=lambda ds: ds.sizes["run"] > 1)
    def spread(ds):
        return {"std": float(ds["prob"].std())}

    @summary_blocks.summary_block("always")
    def always(ds):
        return ds.sizes["run"]

    assert list(blocks) == ["spread", "always"] and blocks["spread"].make is spread
    few = ds.isel(step=slice(0, 3))
    assert summary.summarise(few)["spread"] == {"std": pytest.approx(float(few["prob"].std()))}
    alone = summary.summarise(few.isel(run=[0]))
    assert "spread" not in alone and alone["always"] == 1

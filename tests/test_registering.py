"""A name is registered once: by another function it is refused, by the same one again it is replaced."""

import pytest

import cspace_jax as cs
from cspace_jax.analysis import claims, summary_blocks
from cspace_jax.evaluation import protocols
from cspace_jax.explorer import charts
from cspace_jax.plots import figures, registry

pytestmark = pytest.mark.unit
KINDS = {
    "claim": (claims, "CLAIMS", lambda name: claims.claim(name, "a text", "a number")),
    "summary block": (summary_blocks, "BLOCKS", summary_blocks.summary_block),
    "figure": (registry, "FIGURES", registry.figure),
    "protocol": (protocols, "PROTOCOLS", protocols.protocol),
    "chart": (charts, "CHARTS", lambda name: charts.chart(name, "A title")),
}


def defined(module):
    """Return a function `mine` as a file or a cell of a notebook named so defines it."""
    space = {"__name__": module}
    exec("def mine(ds):\n    return ds", space)
    return space["mine"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_is_taken_once_and_a_cell_may_run_again(kind, monkeypatch):
    module, known, register = KINDS[kind]
    monkeypatch.setattr(module, known, {})
    first, again = defined("notebook"), defined("notebook")
    register("mine")(first)
    register("mine")(again)
    entry = getattr(module, known)["mine"]
    assert again in vars(entry).values() and first not in vars(entry).values()
    with pytest.raises(cs.UserError, match=f"{kind} 'mine': mine in the module notebook has this name already"):
        register("mine")(defined("elsewhere"))
    assert getattr(module, known)["mine"] is entry


def test_own_figures_do_not_replace_those_of_the_package():
    assert "fig4" in figures.names()
    with pytest.raises(cs.UserError, match="figure 'fig4': fig4 in the module cspace_jax.plots.trajectories"):
        cs.figure("fig4")(lambda ds: ds)

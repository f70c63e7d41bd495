"""A name is registered once: by another function it is refused, by the same one again it is replaced."""

import functools
import importlib

import pytest
import synthetic

import cspace_jax as cs
from cspace_jax.analysis import claims, summary, summary_blocks
from cspace_jax.config import config_files
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
    exec("def mine(ds, *rest):\n    return ds", space)
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
    with pytest.raises(cs.UserError, match=f"{kind} 'mine': mine in notebook has this name already"):
        register("mine")(defined("elsewhere"))
    assert getattr(module, known)["mine"] is entry


def test_own_figures_do_not_replace_those_of_the_package():
    assert "fig4" in figures.names()
    with pytest.raises(cs.UserError, match="figure 'fig4': fig4 in .*cspace_jax/plots/trajectories.py has"):
        cs.figure("fig4")(lambda ds: ds)


def test_a_file_that_is_imported_and_then_loaded_by_its_path_may_register_again(tmp_path, monkeypatch):
    monkeypatch.setattr(summary_blocks, "BLOCKS", {})
    text = "import cspace_jax as cs\n\n\n@cs.summary_block('mine')\ndef mine(ds):\n    pass\n"
    (tmp_path / "mine.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("mine")
    config_files.load(tmp_path / "mine.py")
    (tmp_path / "other.py").write_text(text)
    with pytest.raises(cs.UserError, match=f"summary block 'mine': mine in {tmp_path}/mine.py has this name already"):
        config_files.load(tmp_path / "other.py")


@pytest.mark.parametrize(
    ("register", "words"),
    [
        (lambda: protocols.protocol("mine")(functools.partial(protocols.naive)), "must be a function, not partial"),
        (lambda: protocols.protocol("a+b")(protocols.naive), "must hold no '\\+' or ':'"),
        (lambda: protocols.protocol("dim_random")(protocols.naive), "not end in _random or _shuffled"),
        (lambda: cs.figure("all")(lambda ds: ds), "the name stands for all figures"),
        (lambda: cs.figure("mine")(lambda ds, step: ds), "its argument 'step' must be one of ds, samples, data"),
        (lambda: cs.summary_block("levels")(lambda ds: {}), "every summary has a part of this name"),
    ],
)
def test_what_could_not_be_asked_for_is_refused_at_once(register, words):
    with pytest.raises(cs.UserError, match=words):
        register()


def test_the_names_of_the_summarys_own_parts_are_known(monkeypatch):
    monkeypatch.setattr(summary_blocks, "BLOCKS", {})
    monkeypatch.setattr(summary, "BLOCKS", {})
    assert tuple(summary.summarise(synthetic.dataset(levels=(0.2,), seeds=(0,)))) == summary_blocks.OWN

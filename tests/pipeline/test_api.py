"""The front door for Python: what `import cspace_jax as cs` gives, and the lines that the README shows."""

import dataclasses
import html
import shutil
import subprocess
import sys

import events
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import copy_of

import cspace_jax as cs
from cspace_jax.config.plan import Plan
from cspace_jax.pipeline import api

# A study of its own is trained.
pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def config():
    return cs.load_config("signal:smoke", seeds=(0, 1), sep_col=(0.2, 0.8), figures=("fig4",))


@pytest.fixture(scope="module")
def study(config, tmp_path_factory):
    return cs.run(config, tmp_path_factory.mktemp("api") / "signal", log="tensorboard")


PROGRAM = """
import sys, time
started = time.perf_counter()
import cspace_jax as cs
took = time.perf_counter() - started
heavy = [name for name in ("jax", "absl", "flax", "matplotlib", "xarray", "pandas") if name in sys.modules]
assert not heavy, heavy
assert took < 5  # a loaded machine; about 0.004 s
names = [name for name in dir(cs) if getattr(cs, name) is None]
assert not names
extras = [name for name in ("tensorboardX", "wandb", "safetensors") if name in sys.modules]
assert not extras, extras
import jax
from jax._src import xla_bridge
assert not xla_bridge.backends_are_initialized()
from absl import flags
assert "workdir" not in flags.FLAGS
print(len(dir(cs)))
"""


def test_the_import_starts_nothing_and_every_name_is_there():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len(cs.__all__) == 24
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = cs.nothing


def test_a_notebook_shows_the_page(study, tmp_path):
    page = study.page()
    shown = html.unescape(page._repr_html_().partition('srcdoc="')[2].partition('" width')[0])
    assert shown == page.text == page.save(tmp_path / "x.html").read_text()
    assert "<h1>signal</h1>" in page.text and "smoke scale, 4 runs" in page.text


def test_a_study_that_is_logged_has_events_of_training_and_of_results(study):
    folders = sorted(path.name for path in (study.workdir.root / "tensorboard").iterdir())
    assert folders[:2] == ["run_00000 sep_col=0.2 seed=0", "run_00001 sep_col=0.2 seed=1"] and len(folders) == 4
    events.assert_whole(study.workdir.root)


def test_the_ten_lines(config, study, tmp_path, capsys):
    """Those of the README, after its first three."""
    ds = study.dataset
    curves = ds.prob.sel(klass="11", concept="color").groupby("sep_col").mean()
    assert curves.sizes["step"] == 3 and curves["sep_col"].values.tolist() == [0.2, 0.8]
    times = study.summary("learning_times")
    assert {"median", "low", "high", "learned", "seeds"} == set(times.columns)
    assert ("sep_col=0.8", "11", "joint", "stays_80") in times.index
    assert len(study.figure("fig4").axes) > 1
    again = study.elicit("overprompt", "latent", samples=2, overprompt=(1.0,), alpha=(1.0,))
    assert again.dataset["protocol"].values.tolist() == ["naive", "overprompt", "latent"]
    np.testing.assert_array_equal(again.dataset["prob"].sel(protocol="naive"), ds["prob"].sel(protocol="naive"))
    assert set(again.summary("elicitation")[0]["classes"]["11"]) == {"naive", "overprompt", "latent"}
    model = study.model(run=0, step=3)
    images = model.sample(cs.data.prompt(config, "blue small"), n=8)
    assert images.shape == (8, 8, 8, 3) and images.dtype == np.float32
    assert images.min() >= 0 and images.max() <= 1 and np.ptp(images) > 0.1


def test_stored_results_are_shown_by_another_definition_of_learned(config, study, tmp_path):
    before = study.workdir.dataset.read_bytes()
    for learned, other in (("first_80", "stays_80"), ("stays_80", "first_80")):
        shown = dataclasses.replace(config, learned=learned)
        cs.run(shown, study.workdir.root, "report", outdir=tmp_path / learned)
        text = (tmp_path / learned / "report.html").read_text()
        assert f"{learned}: accuracy reaches" in text and f"{other}: accuracy reaches" not in text
    assert study.workdir.dataset.read_bytes() == before


def test_a_finished_study_is_opened_and_run_again_without_training(config, study, capsys):
    before = study.workdir.table.read_bytes()
    opened = cs.open_study(study.workdir.root)
    assert opened.config.grid == config.grid and opened.dataset.sizes["run"] == 4
    cs.run(config, study.workdir.root)
    assert study.workdir.table.read_bytes() == before
    said = capsys.readouterr()
    assert "cached" in said.out and "train:" not in said.err and "evaluate:" not in said.err


def test_a_probe_that_is_gone_is_missed_only_where_something_is_left_to_read(config, study, tmp_path, capsys):
    copied = copy_of(study.workdir, tmp_path).root
    shutil.rmtree(copied / "probe")
    table, dataset = (copied / "concept_space.csv").read_bytes(), cs.open_study(copied).dataset
    capsys.readouterr()
    again = cs.run(config, copied)
    assert "is gone: nothing is read again; further runs, steps and protocols would need it" in capsys.readouterr().out
    assert not (copied / "probe").exists() and (copied / "concept_space.csv").read_bytes() == table
    assert again.dataset.identical(dataset)
    for more in (lambda: again.elicit("latent", samples=2, alpha=(1.0,)), lambda: again.extend(seeds=(7,))):
        with pytest.raises(cs.UserError, match="is gone: --mode=train trains it again"):
            more()
    cs.run(config, copied, mode="train")
    assert "it is trained again" in capsys.readouterr().out
    kept, made = (sorted((root / "probe").glob("*.npz")) for root in (study.workdir.root, copied))
    assert [file.name for file in kept] == [file.name for file in made]
    assert all(file.read_bytes() == of.read_bytes() for file, of in zip(made, kept, strict=True))


def test_one_model_samples_as_its_study_does_and_by_key(config, study):
    first, last = (study.model(run=3, step=step) for step in (2, 6))
    assert float(first.setting.sep_col) == np.float32(0.8) and int(first.setting.seed) == 1
    asked = cs.data.prompt(config, "red large")
    one = last.sample(asked, key=1)
    np.testing.assert_array_equal(one, last.sample(asked, key=1))
    assert np.abs(one - last.sample(asked, key=2)).max() > 1e-3
    assert np.abs(one - first.sample(asked, key=1)).max() > 1e-6
    assert last.sample(jnp.stack([asked, asked]), n=3).shape == (2, 3, 8, 8, 3)


def test_a_prompt_in_words_is_the_class_at_its_means(config):
    blue = cs.data.prompt(config, "small blue")
    np.testing.assert_allclose(blue[4:8], [0.4, 0.4, 0.6, 0.25], rtol=1e-6)  # sep_col .2, sep_size .4
    np.testing.assert_array_equal(blue, cs.data.prompt(config, "11"))
    strong = cs.Setting(sep_col=0.8)
    np.testing.assert_allclose(cs.data.prompt(config, "blue small", strong)[4:7], [0.1, 0.1, 0.9], atol=1e-6)


def test_preview_checks_the_names_and_shows_the_forecast_of_the_plan(config, monkeypatch):
    """What the forecast says is tested with the command's --mode=plan."""
    shown = []
    monkeypatch.setattr(api.forecast, "show", lambda *arguments: shown.append(arguments))
    cs.preview(config)
    cs.preview(config, compile_programs=True)
    assert shown == [(config, Plan.resolve(config, "cpu"), asked) for asked in (False, True)]
    with pytest.raises(cs.UserError, match="figures = 'fig99'"):
        cs.preview(dataclasses.replace(config, figures=("fig99",)))
    with pytest.raises(cs.UserError, match="unknown protocol 'overpromt'"):
        cs.preview(cs.load_config("signal:smoke", protocols=("overpromt",)))


def test_overrides_are_named_in_short_or_in_full():
    config = cs.load_config("hidden:smoke", seeds=7)
    assert config.grid.seeds == (7,) and config.study == "hidden"
    config = cs.load_config("signal:quick", sampling_steps=7, **{"optim.steps": 50, "save.start": 5})
    assert (config.evaluate.sampling_steps, config.optim.steps, config.save.start) == (7, 50, 5)


MISTAKES = {
    "study": (lambda: cs.load_config("signl:quick"), "config = 'signl': must be a study .*did you mean 'signal'"),
    "scale": (lambda: cs.load_config("signal:papr"), "scale = 'papr': must be one of"),
    "field": (lambda: cs.load_config("signal:smoke", sep_colour=(0.2,)), "unknown field, did you mean '.*sep_col'"),
    "ambiguous": (lambda: cs.load_config("signal:smoke", steps=3), "steps = 3: stands for several fields.*optim.steps"),
    "value": (lambda: cs.load_config("signal:smoke", sep_col=(0.9,)), "grid.sep_col.0. = 0.9: must be in"),
    "workdir": (lambda: cs.open_study("/nowhere/w"), "no such folder"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line(name):
    call, words = MISTAKES[name]
    with pytest.raises(cs.UserError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_mistake_with_a_study_is_one_line(config, study):
    for call, words in (
        (lambda: study.model(run=9), "run = 9: must be in .0, 3."),
        (lambda: study.model(step=4), "step = 4: must be a saved step, one of 2, 3, 6"),
        (lambda: study.figure("fig99"), "figures = 'fig99': must be one of"),
        (lambda: study.figure("gif"), "must be one figure that is not an animation"),
        (lambda: study.figure("fig8"), "figure fig8: the masked fraction does not vary"),
        (lambda: study.summary("learning"), "summary = 'learning': must be one of .*did you mean 'learning_times'"),
        (lambda: study.elicit("overpromt"), "unknown protocol 'overpromt'"),
        (lambda: cs.data.prompt(config, "blue smal"), "'smal' is none of .*did you mean 'small'"),
        (lambda: cs.data.prompt(config, "blue red"), "must hold one word for each of color, size"),
        (lambda: study.model().sample(np.zeros(3)), "conditioning = .3,.: must have the shape .11."),
        (lambda: study.model().sample(np.zeros(11), guidance=2.0), "guidance = 2.0: must be None or 1"),
        (lambda: cs.run(config, study.workdir.root, "fit"), "mode = 'fit': must be one of"),
        (
            lambda: cs.run(dataclasses.replace(config, scale="quick"), study.workdir.root),
            "belongs to another config, differing in scale",
        ),
    ):
        with pytest.raises(cs.UserError, match=words):
            call()


def test_a_figure_and_a_summary_block_are_one_decorated_function_each(study, monkeypatch, tmp_path):
    from cspace_jax.analysis import summary, summary_blocks
    from cspace_jax.plots import figures, registry, style

    monkeypatch.setattr(registry, "FIGURES", dict(registry.FIGURES))
    monkeypatch.setattr(figures, "FIGURES", registry.FIGURES)
    monkeypatch.setattr(summary_blocks, "BLOCKS", dict(summary_blocks.BLOCKS))
    monkeypatch.setattr(summary, "BLOCKS", summary_blocks.BLOCKS)

    @cs.figure("runs", needs=(lambda ds, samples: "" if ds.sizes["run"] > 1 else "there is one run only",))
    def runs(ds, samples):
        fig = style.new_figure(2, 2)
        fig.subplots().plot(ds["seed"].values, [len(samples)] * ds.sizes["run"])
        return fig

    @cs.summary_block("spread", when=lambda ds: ds.sizes["run"] > 1)
    def spread(ds):
        return {"std": float(ds["prob"].std())}

    assert "runs" in registry.names() and len(study.figure("runs").axes) == 1
    inputs = figures.Inputs(study.dataset, {}, study.config.data)
    assert {path.name for path in figures.draw_all(inputs, tmp_path, ("runs",))} == {"runs.png", "runs.pdf"}
    assert study.summary("spread")["std"] > 0
    alone = figures.Inputs(study.dataset.isel(run=[0]), {}, study.config.data)
    with pytest.raises(cs.UserError, match="figure runs: there is one run only"):
        figures.draw("runs", alone)

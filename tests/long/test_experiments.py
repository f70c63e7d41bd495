"""The scripts in experiments/ on one smoke study, made by the notebook's own cells, and on data of known truth."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import synthetic
from etils import epath

import cspace_jax as cs
from cspace_jax.analysis import published
from cspace_jax.cli import scripts
from cspace_jax.config import config_files, from_config_dict, to_dict
from cspace_jax.errors import UserError
from cspace_jax.plots import published as drawing
from cspace_jax.storage import results
from cspace_jax.storage.workdir import Workdir

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXPERIMENTS = ROOT / "experiments"
concept_signal, small_settings, landscape_script = (
    config_files.load(EXPERIMENTS / f"{name}.py") for name in ("concept_signal", "small_settings", "landscape")
)
# sep_size: mean squared blurred mask of the large and of the small circle, mean squared difference of the two masks.
MASK_MOMENTS = {
    0.1: (0.15786, 0.09678, 0.02726),
    0.2: (0.19427, 0.07165, 0.08641),
    0.35: (0.25579, 0.04123, 0.18583),
    0.4: (0.27783, 0.03318, 0.21851),
}
# Levels of a colour sweep with published trajectories, and one without.
SWEEP = (0.1, 0.174, 0.35, 0.8)


def code_cells(notebook):
    """Return the code cells: (tags, source)."""
    return [
        (c["metadata"].get("tags", []), "".join(c["source"])) for c in notebook["cells"] if c["cell_type"] == "code"
    ]


def execute(notebook, parameters):
    """Run a notebook's Python cells in order in one namespace; returns it.

    After every cell with a tag, `parameters` that it has set are set to other values.
    """
    namespace = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(EXPERIMENTS)  # where a notebook's kernel starts
        for tags, source in code_cells(notebook):
            exec(compile(source, "colab.ipynb", "exec"), namespace)
            if tags:
                namespace |= {name: value for name, value in parameters.items() if name in namespace}
    assert parameters.keys() <= namespace.keys()
    return namespace


@pytest.fixture(scope="module")
def notebook():
    return json.loads((EXPERIMENTS / "colab.ipynb").read_text())


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A folder laid out as small_settings does, in which the notebook fills the variant `base`."""
    return tmp_path_factory.mktemp("small_settings")


@pytest.fixture(scope="module")
def executed(notebook, study):
    fields = {"figures": ("fig4", "samples")}
    return execute(notebook, {"STUDY": "signal:smoke", "FIELDS": fields, "WORKDIR": str(study / "base")})


@pytest.fixture
def at_paper_scale(tmp_path):
    """The workdir of a synthetic colour sweep that claims the paper's setting."""
    fields = config_files.load(ROOT / "configs" / "signal.py").get_config("paper")
    fields.grid.sep_col, fields.grid.seeds = SWEEP, (0, 100, 200)
    config = from_config_dict(fields)
    (tmp_path / "config.json").write_text(json.dumps(to_dict(config)))
    ds = synthetic.dataset(levels=SWEEP, config=to_dict(config))
    results.write_results(ds, Workdir(epath.Path(tmp_path)))
    return tmp_path, config, ds


def refuse(capsys, script, *arguments):
    """Return the one line with which a script refuses its arguments; it must exit with code 2."""
    with pytest.raises(SystemExit) as exit_:
        scripts.exit_on_user_error(script.run, arguments)
    error = capsys.readouterr().err
    assert exit_.value.code == 2
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


def test_notebook_is_stored_without_outputs(notebook):
    for cell in notebook["cells"]:
        assert cell["cell_type"] == "markdown" or (cell["outputs"] == [] and cell["execution_count"] is None)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    assert [tags for tags, _ in code_cells(notebook)].count(["parameters"]) == 1
    for _, source in code_cells(notebook):
        assert not any(line.lstrip().startswith(("!", "%")) for line in source.splitlines())


def test_notebook_and_readme_use_nothing_but_the_front_door(notebook):
    sources = [source for _, source in code_cells(notebook)]
    readme = (ROOT / "README.md").read_text().replace("from cspace_jax.studies import base\n", "")  # a file of studies
    sources += [block.split("```")[0] for block in readme.split("```python\n")[1:]]
    for word in ("pipeline", "workdir.", "config_files", "from cspace_jax", "stages"):
        assert not [source for source in sources if word in source], word


def test_notebook_runs_a_study_and_shows_it(executed, study):
    ds, by_level = executed["ds"], executed["by_level"]
    assert executed["images"].shape == (8, 8, 8, 3)
    assert ds.sizes["run"] == 4 and ds.attrs["scale"] == "smoke"
    expected = ds["prob"].values[:2, -1, 0, 3, 0].mean()  # both seeds of the weaker level, class 11, colour
    np.testing.assert_allclose(by_level.values[0, -1, 0], expected, rtol=1e-6)
    assert (study / "base" / "summary.json").exists() and (study / "base" / "report.html").exists()


@pytest.mark.parametrize("sep_size", MASK_MOMENTS)
def test_mask_moments_equal_the_published_ones(sep_size):
    generator = np.random.RandomState(42)  # the reference implementation's positions
    centres = np.stack([generator.uniform(-0.5, 0.5, 128), generator.uniform(-0.5, 0.5, 128)], axis=1)
    moments = concept_signal.mask_moments(sep_size, 32, 1.0, centres)
    np.testing.assert_allclose(moments, MASK_MOMENTS[sep_size], atol=1.1e-5)
    np.testing.assert_allclose(concept_signal.mask_moments(sep_size, 32, 1.0), moments, rtol=0.02)


def test_closed_form_equals_the_published_distances():
    # Printed by the reference implementation for sep_col / sep_size .2 / .4 and .8 / .2: d(00, 10) and d(00, 01).
    for sep_col, sep_size, color, size in ((0.2, 0.4, 0.00740884, 0.04297328), (0.8, 0.2, 0.0828904, 0.03686677)):
        closed = concept_signal.closed_form(sep_col, sep_size, MASK_MOMENTS[sep_size])
        np.testing.assert_allclose(closed, [color, size], rtol=2e-3)  # they include pixel noise


def test_concept_signal_measures_the_closed_form(tmp_path, capsys):
    out = tmp_path / "signal"
    concept_signal.run(["--sep_col=0.2,0.8", "--sep_size=0.3", f"--out={out}", "--images=32"])
    text = capsys.readouterr().out
    assert "Colour sweep, 32 x 32 pixels, blur 1" in text and "Size sweep" in text
    rows = [line.split() for line in text.splitlines() if line.split()[:1] in (["0.2"], ["0.8"], ["0.4"])]
    assert [row[:2] for row in rows] == [["0.2", "0.4"], ["0.8", "0.4"], ["0.4", "0.3"]]
    table = np.array([row[2:] for row in rows], dtype=float)
    np.testing.assert_allclose(table[0, [1, 3]], [7.41, 42.97], rtol=0.02)
    np.testing.assert_allclose(table[:, [0, 2]], table[:, [1, 3]], rtol=0.05)  # measured and closed form
    np.testing.assert_allclose(np.hypot(table[:, 6], table[:, 7]), 1, atol=0.01)  # normalised
    assert table[0, 8] == table[1, 8]  # a derivative knows nothing of the colours' distance
    for ending in (".png", ".pdf"):
        assert out.with_suffix(ending).stat().st_size > 1000


def test_comparison_at_paper_scale_matches_levels_exactly(at_paper_scale, capsys):
    folder, config, ds = at_paper_scale
    assert published.deviations(config) == []
    cs.compare(folder, "published:signal").show()
    text = capsys.readouterr().out
    assert "At the paper's setting" in text and "Seeds: 3, published 5" in text and "~" not in text
    trajectories = published.trajectory_levels(published.load_published())
    rows = published.match(ds, trajectories, published.measure_trajectory, nearest=False)
    assert [row.at for row in rows] == [(0.1, 0.4), (0.174, 0.4), (0.8, 0.4)]  # 0.35 was not published
    assert np.isnan(rows[0].ours["t80_color"]) and rows[0].ours["min_blue"] < 0.2  # never blue, held back
    crossing = 1000 + 500 / 0.8 + 300 + 1500  # centre of the strongest level's rise, mean over seeds
    assert crossing < rows[2].ours["t80_color"] < crossing + 1000  # 80 % comes after the centre
    assert published.agreement(rows, "t80_color") == pytest.approx(np.sqrt(0.75))  # theirs ties two at never
    parts = [published.Part("", published.TRAJECTORY, rows)]
    for comparable in (True, False):  # the line of equality and the warning exclude each other
        fig = drawing.figure(ds, parts, comparable)
        diagonals = [line for line in fig.axes[0].lines if getattr(line, "_slope", None) == 1]
        assert len(diagonals) == comparable and bool(fig.get_suptitle()) != comparable


def test_comparison_away_from_paper_scale_compares_order_only(executed, study, capsys):
    cs.compare(study / "base", "published:signal").show()
    text = capsys.readouterr().out
    assert "NOT AT PAPER SCALE (scale smoke; differing: data.image_size" in text
    assert "not comparable" in text and "~0.174, 0.4" in text  # nearest to the study's 0.2
    assert "order of T80 colour over 2 level(s)" in text


def test_small_settings_reads_a_finished_variant_and_runs_a_new_one(executed, study, monkeypatch, capsys):
    monkeypatch.setitem(small_settings.VARIANTS, "slower", {"grid.learning_rate": (5e-4,), "grid.sep_col": (0.8,)})
    metrics = (study / "base" / "metrics.jsonl").read_bytes()
    small_settings.run([f"--workdir={study}", "--variants=base,slower", "--scale=smoke"])
    text = capsys.readouterr().out
    assert "variant base:" not in text and "variant slower: {'grid.learning_rate': (0.0005,)" in text
    assert (study / "base" / "metrics.jsonl").read_bytes() == metrics
    stored = json.loads((study / "small_settings.json").read_text())
    assert [len(stored[name]["levels"]) for name in ("base", "slower")] == [2, 1]
    ds = results.open_results(study / "slower")
    np.testing.assert_allclose(ds["learning_rate"], 5e-4)
    np.testing.assert_allclose(
        list(stored["slower"]["levels"][0]["final"].values()), ds["prob"].values[:, -1, 0, 3].mean(axis=0), rtol=1e-5
    )


def test_small_settings_go_on_after_a_variant_that_fails(executed, study, monkeypatch, capsys):
    monkeypatch.setitem(small_settings.VARIANTS, "wrong", {"optim.stepz": 5})
    error = refuse(capsys, small_settings, f"--workdir={study}", "--variants=wrong,base", "--scale=smoke")
    assert "1 of 2 variants failed: wrong" in error
    monkeypatch.setitem(small_settings.VARIANTS, "base", {"optim.steps": 7})  # no longer what the folder holds
    with pytest.raises(UserError, match="1 of 1"):
        small_settings.run([f"--workdir={study}", "--variants=base", "--scale=smoke"])
    assert "belongs to another config, differing in optim.steps" in capsys.readouterr().out


def test_criteria_find_memorisation_and_first_saves():
    steps = np.arange(1, 21) * 100
    blue = np.r_[0.0, np.full(9, 0.9), np.full(5, 0.2), np.full(5, 0.95)]
    small = np.r_[0.0, np.full(9, 0.3), np.full(5, 0.8), np.full(5, 0.9)]
    phases = small_settings.memorised_phases(steps, np.stack([blue, small], axis=1))
    assert phases["low_blue"] == {"blue": 0.2, "small": 0.8, "step": 1100}  # the first save is too early to count
    assert phases["large_blue"] == {"blue": 0.9, "step": 200}
    never = small_settings.memorised_phases(steps, np.ones((20, 2)))["large_blue"]
    assert np.isnan(never["blue"]) and np.isnan(never["step"])
    accuracy = np.stack([np.stack([blue, small], axis=1), np.zeros((20, 2))])
    np.testing.assert_array_equal(small_settings.first_saves(steps, accuracy), [1600, np.nan])
    one = small_settings.criteria(synthetic.dataset(diverged=(0, 1, 2)))
    assert small_settings._cells(one["levels"][0])[0] == "diverged"
    assert one["swept_concept"] == "color" and one["order"]["11"]["levels"] == 4


def test_all_variants_are_valid():
    assert len(small_settings.VARIANTS) >= 8
    base = small_settings.make_config("quick", {}, "")
    for name, overrides in small_settings.VARIANTS.items():
        config = small_settings.make_config("quick", overrides, "")
        assert (config == base) == (name == "base")


@pytest.mark.parametrize(
    ("script", "arguments", "words"),
    [
        (concept_signal, ["--sep_col=0.2,x"], "argument --sep_col: '0.2,x': must be float values"),
        (concept_signal, ["--sep_col=", "--sep_size="], "at least one of the two sweeps"),
        (concept_signal, ["--sep_col=1.5"], "grid.sep_col[0] = 1.5"),
        (concept_signal, ["--blur=20"], "data.blur = 20.0"),
        (concept_signal, ["--images=0"], "images = 0"),
        (small_settings, ["--workdir=x", "--variants=narow"], "variants = 'narow'"),
        (small_settings, ["--workdir=x", "--scale=huge"], "scale = 'huge'"),
        (small_settings, ["--workdir= "], "must be the path of a folder"),
    ],
)
def test_mistakes_are_one_line(capsys, script, arguments, words):
    assert words in refuse(capsys, script, *arguments)


def test_comparison_refuses_what_was_not_published(at_paper_scale):
    folder, config, _ = at_paper_scale

    def refuses(words):
        with pytest.raises(UserError, match=words):
            cs.compare(folder, "published:signal").show()

    results.write_results(synthetic.dataset(levels=(0.2,), diverged=(0, 1, 2)), Workdir(epath.Path(folder)))
    refuses("all runs diverged")
    changed = to_dict(config)
    changed["data"]["active"] = ["shape", "color"]
    (folder / "config.json").write_text(json.dumps(changed))
    refuses("data.active")
    (folder / "concept_space.nc").unlink()
    (folder / "config.json").write_text(json.dumps(to_dict(config)))
    refuses("does not exist")


def test_scripts_start_as_modules(tmp_path):
    command_line = [sys.executable, "-m", "experiments.landscape", f"--workdir={tmp_path / 'none'}"]
    command_line += [f"--outdir={tmp_path / 'out'}"]
    done = subprocess.run(command_line, cwd=ROOT, capture_output=True, text=True, timeout=1200)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: results: {tmp_path / 'none'}") and done.stderr.count("\n") == 1


def test_landscapes_are_drawn_and_fitted_to_a_study(executed, study, tmp_path, monkeypatch, capsys):
    # Six smoke steps hold three saves; a fit needs more.
    monkeypatch.setattr(results, "open_results", lambda path: synthetic.dataset())
    landscape_script.run([f"--outdir={tmp_path}", f"--workdir={study / 'base'}"])
    names = {"fig5", "fig9b", "surface", "swing_by", "fit"}
    assert {path.name for path in tmp_path.iterdir()} == {f"{n}.{e}" for n in names for e in ("png", "pdf")} | {
        "fit.json",
        "shared_fit.json",
    }
    fits = json.loads((tmp_path / "fit.json").read_text())
    assert len(fits) == 4 and all(one["residual"] < 0.08 for one in fits)
    shared = json.loads((tmp_path / "shared_fit.json").read_text())
    ratios = [0.05 * 8 / level**2 for level in (0.1, 0.2, 0.4, 0.8)]
    found = [one["a"] for one in shared["levels"]]
    np.testing.assert_allclose(found, np.array(ratios) ** shared["exponent"]["value"], rtol=1e-6)
    printed = capsys.readouterr().out
    assert "Eq. 1 (at a masked fraction Eq. 2) fitted" in printed
    assert f"** {shared['exponent']['value']:.2f} [" in printed
    assert "form = 'eq3': must be one of eq1" in refuse(capsys, landscape_script, f"--outdir={tmp_path}", "--form=eq3")

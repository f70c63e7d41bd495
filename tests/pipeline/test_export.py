"""A study as a plain dataset and a run's weights, from a workdir with random evaluations; nothing is trained."""

import ast
import json
import shlex
import shutil

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import tiny
import yaml
from commands import assert_one_line, command, snapshot
from etils import epath
from PIL import Image

import cspace_jax as cs
from cspace_jax.config import to_dict
from cspace_jax.config.setting import Setting
from cspace_jax.evaluation import prompts
from cspace_jax.evaluation.probe import ProbeSpec
from cspace_jax.evaluation.reading import object_color
from cspace_jax.evaluation.spec import EvalSpec
from cspace_jax.storage.evaluations import write_npz
from cspace_jax.storage.workdir import Workdir
from cspace_jax.studies import loading
from cspace_jax.training.run import TrainSpec

pytestmark = pytest.mark.filterwarnings(r"ignore:the load_module\(\) method is deprecated:DeprecationWarning")

CONFIG = tiny.study(evaluate={"samples_per_class": 3, "keep_samples": 2})
NAN_RUN = 3


def evaluation(draw, runs):
    prob = draw.random((runs, 1, 4, 3, 2), np.float32)
    prob[NAN_RUN] = np.nan
    return {
        "prob_samples": prob, "mean_rgb": draw.random((runs, 1, 4, 3)), "loss": draw.random((runs, 2, 4)),
        "schedule_b": draw.random(runs), "schedule_w": draw.random(runs),
        "samples": draw.integers(0, 256, (runs, 4, 2, 8, 8, 3), np.uint8),
    }  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study whose evaluations are random numbers."""
    folder = Workdir(epath.Path(tmp_path_factory.mktemp("work") / "study"))
    folder.root.mkdir()
    folder.config.write_text(json.dumps(to_dict(CONFIG)))
    made, draw = tiny.in_workdir(folder, CONFIG), np.random.default_rng(0)
    for wave in made.waves:
        for step in made.steps:
            write_npz(wave.eval_file(step), evaluation(draw, len(wave.rows)))
    tiny.collected(folder, CONFIG)
    return cs.open_study(folder.root)


@pytest.fixture(scope="module")
def exported(study, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out") / "dataset"
    before = snapshot(study.workdir.root)
    done = command("--mode=export", f"--workdir={study.workdir.root}", f"--to={folder}")
    assert done.code == 0, done.err
    assert snapshot(study.workdir.root) == before
    assert f"160 pictures in {folder}" in done.out
    assert [path.name for path in folder.parent.iterdir()] == ["dataset"]
    return folder


def table_of(exported, part):
    return pd.read_csv(exported / part / "metadata.csv", dtype={"klass": str}, keep_default_na=False)


def test_every_kept_sample_is_a_picture_with_the_reading_of_that_sample(study, exported):
    table = table_of(exported, "samples")
    assert len(table) == 4 * 3 * 4 * 2 and table["file_name"].is_unique
    stored = {step: np.load(study.waves[0].eval_file(step)) for step in study.steps}
    names = study.dataset["klass"].values.tolist()
    for row in table.to_dict("records"):
        place = row["run"], names.index(row["klass"]), row["sample"]
        pixels = np.asarray(Image.open(exported / "samples" / row["file_name"]))
        # A picture's rows run down from the largest y, its columns along x.
        np.testing.assert_array_equal(pixels, stored[row["step"]]["samples"][place].swapaxes(0, 1)[::-1])
        prob = stored[row["step"]]["prob_samples"][row["run"], 0][place[1:]]
        if row["run"] == NAN_RUN:
            assert (row["prob_color"], row["prob_size"], row["read_as"], row["status"]) == ("", "", "", "diverged")
        else:
            assert (np.float32(row["prob_color"]), np.float32(row["prob_size"])) == (prob[0], prob[1])
            assert row["read_as"] == f"{'blue' if prob[0] > 0.5 else 'red'} {'small' if prob[1] > 0.5 else 'large'}"


def test_the_table_says_what_each_sample_was_asked_for(study, exported):
    table = table_of(exported, "samples")
    settings = [(row["seed"], row["sep_col"]) for _, row in table.drop_duplicates("run").iterrows()]
    assert settings == [(0, 0.2), (7, 0.2), (0, 0.8), (7, 0.8)]
    assert set(zip(table["klass"], table["words"], table["trained"], strict=True)) == {
        ("00", "red large", 1), ("01", "red small", 1), ("10", "blue large", 1), ("11", "blue small", 0),
    }  # fmt: skip
    assert (table["bit_color"].astype(str) + table["bit_size"].astype(str) == table["klass"]).all()
    spec = EvalSpec.from_config(CONFIG, TrainSpec.from_config(CONFIG), ProbeSpec.from_config(CONFIG))
    asked = prompts.naive_prompts(spec, Setting(seed=7, sep_col=0.8, sep_size=0.4)).conditioning.reshape(4, 3, -1)
    columns = [name for name in table if name.startswith("asked_")]
    ours = table[(table["run"] == 3) & (table["step"] == 5)][columns].to_numpy().reshape(4, 2, -1)
    np.testing.assert_allclose(ours, asked[:, :2], atol=1e-6)
    unseen = table[table["klass"] == "11"].drop_duplicates(["run"])
    np.testing.assert_allclose(unseen["asked_color_2"], [0.6, 0.6, 0.9, 0.9], atol=1e-6)


def test_examples_are_images_of_their_vectors(exported):
    table = table_of(exported, "examples")
    assert len(table) == 2 * 4 * 8 and "run" not in table and "prob_color" not in table
    strong = table[table["sep_col"] == 0.8]
    pixels = np.stack([np.asarray(Image.open(exported / "examples" / name)) for name in strong["file_name"]])
    drawn = np.asarray(object_color(jnp.asarray(pixels, jnp.float32) / 255))
    assert ((drawn[:, 2] > drawn[:, 0]) == (strong["words"].str.startswith("blue"))).all()
    assert (strong["asked_color_2"] > strong["asked_color_0"]).equals(strong["words"].str.startswith("blue"))


def test_the_card_describes_every_column_and_part(study, exported):
    _, head, text = (exported / "README.md").read_text().split("---\n", 2)
    parts = yaml.safe_load(head)["configs"]
    assert parts == [{"config_name": name, "data_dir": name} for name in ("samples", "examples")]
    described = [line.split(" | ")[0].strip("| ") for line in text.splitlines() if line.startswith("| ")]
    for part in parts:
        for column in table_of(exported, part["data_dir"]).columns:
            assert column in described or f"{column.partition('_')[0]}_*" in described, column
    assert "4 runs (seeds [0, 7], sep_col [0.2, 0.8]) at 3" in text and "96 pictures" in text
    for file in ("concept_space.csv", "config.json"):
        assert (exported / file).read_bytes() == (study.workdir.root / file).read_bytes()


def test_the_card_has_the_command_that_makes_the_study_again_whatever_file_made_it(exported):
    words = shlex.split((exported / "README.md").read_text().partition("```bash\n")[2].partition("\n```")[0])
    assert words[:5] == ["python", "-m", "cspace_jax.main", "--config=signal:smoke", "--workdir=NEW"]
    pairs = [word.removeprefix("--config.").split("=", 1) for word in words[5:]]
    values = {name: value if name == "study" else _literal(value) for name, value in pairs}
    assert loading.configure("signal:smoke", values) == CONFIG


def _literal(text):
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def test_a_target_that_holds_something_is_refused_and_an_empty_one_is_taken(study, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    line = ("--mode=export", f"--workdir={study.workdir.root}")
    before = snapshot(tmp_path)
    for to, words in (
        (tmp_path / "full", "full': is not empty; nothing is overwritten"),
        (tmp_path / "file", "file': is a file, must be a folder"),
        (study.workdir.root, "is not empty"),
        (study.workdir.root / "new", "new': lies in the workdir"),
        ("gs://bucket/x", "must be the path of a folder on this machine"),
    ):
        assert_one_line(command(*line, f"--to={to}"), words)
    assert snapshot(tmp_path) == before
    assert study.export(tmp_path / "empty") == 160


def test_what_goes_wrong_leaves_nothing_behind(study, tmp_path):
    copy = tiny.copy_of(study.workdir, tmp_path)
    (copy.root / study.waves[0].eval_file(5).relative_to(study.workdir.root)).unlink()
    done = command("--mode=export", f"--workdir={copy.root}", f"--to={tmp_path / 'out' / 'x'}")
    assert done.code == 2 and "step_00000005.npz cannot be read" in done.err
    assert list((tmp_path / "out").iterdir()) == []
    shutil.rmtree(copy.root / "eval")
    copy.dataset.unlink()
    assert_one_line(command("--mode=export", f"--workdir={copy.root}", "--to=x"), "run --mode=eval first")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--mode=export", "--weights=a"), "weights = 'a': must be RUN or RUN:STEP"),
        (("--mode=export", "--weights=9"), "run = 9: must be in [0, 3]"),
        (("--mode=export", "--weights=0:4"), "step = 4: must be a saved step, one of 2, 5, 6"),
        (("--mode=export", "--weights=0", "--to={workdir}/x.safetensors"), "x.safetensors': lies in the workdir"),
        (("--mode=figures", "--to=x"), "to = 'x': only goes with --mode=export"),
        (("--mode=export", "--outdir=x"), "outdir = 'x': only goes with --mode=figures, report"),
    ],
)
def test_a_mistake_is_one_line(study, arguments, words):
    given = (one.format(workdir=study.workdir.root) for one in arguments)
    assert_one_line(command(f"--workdir={study.workdir.root}", *given), words)


@pytest.mark.parametrize(
    ("arguments", "target", "way"),
    [
        ((), "study_export", "--to=FOLDER"),
        (("--weights=0:5",), "study_run_0_step_5.safetensors", "--to=FILE.safetensors"),
    ],
)
def test_an_export_from_inside_the_workdir_says_how_to_name_another_place(
    study, arguments, target, way, monkeypatch, tmp_path
):
    copy = tiny.copy_of(study.workdir, tmp_path)
    inside = copy.root.rename(tmp_path / "study") / "eval"
    before = snapshot(tmp_path)
    monkeypatch.chdir(inside)
    done = command("--mode=export", "--workdir=..", *arguments)
    assert_one_line(done, f"to is not given: '{target}' in the current folder would lie in the workdir '{tmp_path}/")
    assert done.err.rstrip().endswith(way) and "to =" not in done.err and snapshot(tmp_path) == before

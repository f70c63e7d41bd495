"""Studies of pictures and of a user's generator, from the folder to the figures, and every mistake in one line."""

import dataclasses
import json
import os
import pathlib
import shutil

import faces
import jax
import numpy as np
import pandas as pd
import pytest
from commands import NARROW, ROOT, command
from PIL import Image

import cspace_jax as cs
from cspace_jax import sources
from cspace_jax.config import DataConfig
from cspace_jax.data import signal
from cspace_jax.data.opened import source_of
from cspace_jax.data.renderer import Renderer
from cspace_jax.data.source import Source
from cspace_jax.pipeline import image_source
from cspace_jax.sources import decoding
from cspace_jax.storage.workdir import Workdir

pytestmark = pytest.mark.filterwarnings(r"ignore:the load_module\(\) method is deprecated:DeprecationWarning")
CONFIG = f"--config={ROOT / 'configs' / 'images.py'}:smoke"


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """A cache of pictures that is this module's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    faces.write_folder(folder, 120, seed=1)
    return folder


def narrow(*arguments):
    return [*NARROW[:-1], "--config.grid.seeds=(0, 1)", *arguments]


@pytest.fixture(scope="module")
def study(pictures, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("study") / "w"
    done = command(
        CONFIG, f"--config.data.path={pictures}", f"--workdir={workdir}", *narrow(),
        "--config.data.flip=True", "--config.data.jitter=(0.1, 0.1, 0.1, 0.1)",
        "--config.elicit.protocols=('overprompt', 'overprompt_random', 'latent', 'patch')",
        "--config.figures=('fig2', 'fig4', 'fig14', 'classes')",
    )  # fmt: skip
    assert done.code == 0, done.err
    return workdir, done


def test_a_folder_becomes_results_and_figures_in_its_own_words(study):
    workdir, done = study
    ds = cs.open_study(workdir).dataset
    assert ds["concept"].values.tolist() == ["sex", "smiling"]
    assert json.loads(ds.attrs["words"]) == {"sex": ["female", "male"], "smiling": ["not smiling", "smiling"]}
    assert ds.sizes["run"] == 2 and np.isfinite(ds["prob"].sel(protocol="naive")).all()
    assert ds["reading"].dims == ("klass", "concept") and ((ds["reading"] > 0) & (ds["reading"] < 1)).all()
    assert np.isnan(ds["signal"]).all() and np.isfinite(ds["mean_distance"]).all()
    summary = json.loads((workdir / "summary.json").read_text())["pictures"]
    assert ds["exchange"].dims == ("run", "step", "concept") and np.isfinite(ds["exchange"]).all()
    assert set(summary["exchange"]["the one setting"]) == {"sex", "smiling"}
    assert set(summary["reading"]) == {"00", "01", "10", "11"} and set(summary["mean_distance"]) == {"sex", "smiling"}
    assert set(ds["protocol"].values) == {"naive", "overprompt", "overprompt_random", "latent", "patch"}
    assert {file.name for file in (workdir / "figures").iterdir()} == {
        f"{name}.{kind}" for name in ("fig4", "fig14", "classes") for kind in ("png", "pdf")
    }
    line = "pictures: bit 1 of sex = male, of smiling = smiling; held out: 11 (male smiling)\n"
    assert done.out.count(line) == 1
    assert "fig2 left out, only drawn for the data-generating process" in done.out
    info = json.loads(next((workdir / "probe").glob("*.json")).read_text())
    confusion = np.array(info["confusion"])
    assert confusion.shape == (4, 4) and confusion.sum(axis=1).tolist() == [12, 12, 12, 12]


def test_a_model_of_pictures_is_asked_in_their_words(study):
    opened = cs.open_study(study[0])
    asked = cs.data.prompt(opened.config, "11")
    np.testing.assert_array_equal(asked, [0, 1, 0, 1])
    assert opened.model(0, 6).sample(asked, n=2).shape == (2, 8, 8, 3)


def test_it_is_exported_with_the_pictures_that_the_workdir_kept(study, tmp_path):
    workdir, _ = study
    cs.open_study(workdir).export(tmp_path / "dataset")
    table = pd.read_csv(tmp_path / "dataset" / "examples" / "metadata.csv", dtype={"klass": str})
    with np.load(workdir / "examples.npz") as stored:
        kept = stored["images"]
    kept = kept.reshape(-1, *kept.shape[2:])
    assert len(table) == len(kept) and set(table["words"]) == {
        f"{sex} {smile}" for sex in ("female", "male") for smile in ("not smiling", "smiling")
    }
    last = np.asarray(Image.open(tmp_path / "dataset" / "examples" / table["file_name"].iloc[-1]))
    np.testing.assert_array_equal(last, kept[-1].swapaxes(0, 1)[::-1])
    asked = table[[name for name in table if name.startswith("asked_")]].to_numpy()
    assert (asked[:, 1::2] == table[["bit_sex", "bit_smiling"]].to_numpy()).all()


def test_figures_need_no_pictures_and_evaluation_says_that_it_does(study, tmp_path):
    workdir, gone = tmp_path / "w", tmp_path / "gone"
    shutil.copytree(study[0], workdir)
    config = json.loads((workdir / "config.json").read_text())
    config["data"]["path"] = str(gone)
    (workdir / "config.json").write_text(json.dumps(config))
    shutil.rmtree(workdir / "figures")
    done = command("--mode=figures", f"--workdir={workdir}")
    assert done.code == 0 and (workdir / "figures" / "classes.png").exists()
    done = command("--mode=eval", f"--workdir={workdir}")
    assert done.code == 2 and done.err == f"error: data.path = {str(gone)!r}: no such folder\n"


def test_other_labels_of_the_same_pictures_are_refused(study, pictures, tmp_path):
    folder = tmp_path / "pictures"
    shutil.copytree(pictures, folder)
    text = (folder / "labels.csv").read_text().splitlines()
    first = text[1].split(",")
    first[1] = {"male": "female", "female": "male"}[first[1]]
    (folder / "labels.csv").write_text("\n".join([text[0], ",".join(first), *text[2:]]) + "\n")
    before = (study[0] / "config.json").read_bytes()
    done = command("--mode=eval", f"--workdir={study[0]}", f"--config.data.path={folder}")
    assert done.code == 2 and "its images have changed since it was made" in done.err and done.err.count("\n") == 1
    assert (study[0] / "config.json").read_bytes() == before


def test_other_pixels_in_a_file_of_the_same_size_are_refused(study, pictures, tmp_path):
    folder = tmp_path / "pictures"
    shutil.copytree(pictures, folder)
    file = folder / "face_0000.jpg"
    size = file.stat().st_size
    with Image.open(file) as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(file, quality=50)
    file.write_bytes(file.read_bytes().ljust(size, b"\0"))  # what follows the picture is not read
    assert file.stat().st_size == size
    workdir = shutil.copytree(study[0], tmp_path / "w")
    arguments = (f"--workdir={workdir}", f"--config.data.path={folder}")
    done = command("--mode=eval", *arguments)
    assert done.code == 2 and "images have changed since it was made (pixels was " in done.err
    assert done.err.count("error: ") == 1 and "Traceback" not in done.err
    shutil.copy(pictures / "face_0000.jpg", file)  # at another time
    assert command("--mode=eval", *arguments).code == 0


def test_a_workdir_of_an_older_version_knows_no_pixels_and_still_opens(study):
    """Neither it nor its probe's file is told by them."""
    workdir, config = Workdir(study[0]), cs.open_study(study[0]).config
    kept = workdir.source.read_text()
    try:
        described = json.loads(kept)
        assert len(described.pop("pixels")) == 16
        workdir.source.write_text(json.dumps(described))
        image_source.require_same(workdir, image_source.open_and_check(config))
        old = source_of(config.data)
        assert "pixels" not in old.identity and old.identity == Source.identity.fget(old)
    finally:
        workdir.source.write_text(kept)
    new = image_source.open_and_check(config)
    assert new.identity == {**old.identity, "pixels": json.loads(kept)["pixels"]}


def test_a_second_start_opens_no_picture_and_trains_nothing(study, pictures, monkeypatch):
    monkeypatch.setattr(decoding, "_decode_all", lambda *_: pytest.fail("pictures were decoded again"))
    table = (study[0] / "concept_space.csv").read_bytes()
    cs.run(cs.open_study(study[0]).config, study[0])
    assert (study[0] / "concept_space.csv").read_bytes() == table


def test_faces_in_the_official_files_from_end_to_end(tmp_path):
    faces.write_celeba(tmp_path / "celeba", 120, seed=1)  # as many as above: the same programs
    done = command(
        f"--config={ROOT / 'configs' / 'celeba.py'}:smoke", f"--config.data.path={tmp_path / 'celeba'}",
        f"--workdir={tmp_path / 'w'}", *narrow("--config.network.conditioning=sep_mlp", "--config.figures=('fig4',)"),
    )  # fmt: skip
    assert done.code == 0, done.err
    ds = cs.open_study(tmp_path / "w").dataset
    assert json.loads(ds.attrs["words"]) == {"Male": ["male", "female"], "Smiling": ["not smiling", "smiling"]}


def test_the_readmes_generator_is_trained_on(tmp_path, capsys):
    readme = (ROOT / "README.md").read_text()
    code = readme.split("this is all of `bars.py`")[1].split("```python\n")[1].split("```")[0]
    file = tmp_path / "bars.py"
    file.write_text(code)
    done = command(
        f"--config={ROOT / 'configs' / 'signal.py'}:smoke", f"--config.data.source={file}:Bars",
        f"--workdir={tmp_path / 'w'}",
        *narrow("--config.figures=('classes', 'fig4')", "--config.grid.sep_col=(0.2, 0.8)"),
    )  # fmt: skip
    assert done.code == 0, done.err
    ds = cs.open_study(tmp_path / "w").dataset
    assert ds["concept"].values.tolist() == ["tilt", "tone"]
    tone = ds["signal"].sel(concept="tone").values.reshape(2, 2)
    np.testing.assert_allclose(tone[1] / tone[0], 16, rtol=1e-3)  # (.8 / .2)^2
    assert (tmp_path / "w" / "figures" / "classes.png").exists()


def test_held_out_classes_are_a_choice():
    source = Renderer(DataConfig(held_out=("01",), images_per_class=10, image_size=8))
    assert source.classes.train_ids == (0, 2, 3) and source.classes.held_out_ids == (1,)
    items, _ = source.split(cs.Setting(), jax.random.key(0))
    assert set(np.asarray(items.klass).tolist()) == {0, 2, 3} and source.train_images == 25
    measured = signal.pixel_signal(source, cs.Setting(), jax.random.key(0), n=2)  # no seen pair differs in size alone
    assert np.isfinite(measured).all() and (measured > 0).all()


def generator(concepts):
    """A generator with these concepts, as text."""
    return (
        f"import cspace_jax as cs, jax.numpy as jnp\nclass Bars(cs.Generator):\n    concepts = {concepts!r}\n"
        "    def sample(self, setting, bits, key, at_mean): return bits\n"
        "    def render(self, values): return jnp.zeros((8, 8, 3))\n"
    )


BROKEN = {
    "no_concept": (generator({}), "must have 2 to 6 concepts, not 0 (none)"),
    "one_concept": (generator({"tone": ("dark", "bright")}), "must have 2 to 6 concepts, not 1 (tone)"),
    "seven_concepts": (generator({name: ("no", "yes") for name in "abcdefg"}), "must have 2 to 6 concepts, not 7"),
    "one_word": (generator({"a": ("b", "c"), "d": ("e",)}), "concept 'd' must have two different words, not ('e',)"),
    "a_word_twice": (generator({"a": ("b", "c"), "d": ("e", "e ")}), "concept 'd' must have two different words"),
    "no_tuple": (generator({"a": ("b", "c"), "d": "up"}), "concept 'd' must have two different words, not 'up'"),
    "nothing": ("", "SyntaxError"),
    "no_name": ("class Other: pass", "AttributeError"),
    "no_source": ("def Bars(data): return 3", "must return a cspace_jax.Source, not int"),
    "wrong_size": (
        "import cspace_jax as cs, jax.numpy as jnp\nclass Bars(cs.Generator):\n"
        "    concepts = {'a': ('b', 'c'), 'd': ('e', 'f')}\n"
        "    def sample(self, setting, bits, key, at_mean): return bits\n"
        "    def render(self, values): return jnp.zeros((3, 3, 3))\n",
        "makes images of the shape (3, 3, 3), must be (8, 8, 3)",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_generator_is_one_line(tmp_path, name):
    text, words = BROKEN[name]
    (tmp_path / "bars.py").write_text(text or "class Bars(:")
    done = command(
        f"--config={ROOT / 'configs' / 'signal.py'}:smoke", f"--config.data.source={tmp_path}/bars.py:Bars",
        f"--workdir={tmp_path / 'w'}",
    )  # fmt: skip
    assert done.code == 2 and words in done.err and done.err.count("\n") == 1 and "data.source = " in done.err
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(("field", "value"), [("tint", "True"), ("flip", "True"), ("path", "pictures")])
def test_a_field_of_pictures_alone_is_refused_where_images_are_drawn(field, value, tmp_path):
    """It would be ignored in silence."""
    done = command("--config=signal:smoke", f"--config.data.{field}={value}", f"--workdir={tmp_path / 'w'}")
    assert done.code == 2 and f"data.{field} = " in done.err and "only pictures have it" in done.err
    assert done.err.count("\n") == 1 and not (tmp_path / "w").exists()


MISTAKES = {
    "concepts of drawings": (["--config.data.active=('color', 'shape')"], "'shape'): only drawn images have it"),
    "blur of drawings": (["--config.data.blur=2.0"], "data.blur = 2.0: only drawn images have it"),
    "split of drawings": (["--config.data.train_ratio=0.5"], "data.source = 'images' ignores it"),
    "no folder": (["--config.data.path="], "data.path = '': must name the folder"),
    "no such folder": (["--config.data.path=/no/where"], "no such folder"),
    "unknown source": (["--config.data.source=image"], "did you mean 'images'"),
    "unknown concept": (["--config.data.concepts=('sex', 'smilling')"], "did you mean 'smiling'"),
    "too many": (["--config.data.images_per_class=40"], "data.images_per_class = 40: must be at most"),
    "equal runs": (["--config.grid.sep_col=(0.2, 0.4)"], "pictures do not depend on it"),
    "equal runs of size": (["--config.data.tint=True", "--config.grid.sep_size=(0.1, 0.2)"], "pictures do not depend"),
    "published prompts": (["--config.elicit.protocols=('overprompt_published',)"], "overprompt_published asks for"),
    "no class": (["--config.data.held_out=('22',)"], "data.held_out = '22': must be one of 00, 01, 10, 11"),
    "nothing left": (["--config.data.held_out=('00', '01', '10', '11')"], "leaves fewer than 2 classes to train on"),
    "one value left": (["--config.data.held_out=('01', '11')"], "leaves one value of smiling only"),
    "mask of a held-out class": (["--config.data.mask_class=11"], "must be a training class, one of 00, 01, 10"),
    "a batch too large": (["--config.optim.batch_size=600"], "must be at most the 54 training images"),
    "another concept pushed": (["--config.elicit.protocols=('overprompt:smilng',)"], "did you mean 'smiling'"),
    "concept pushed": (
        ["--config.elicit.protocols=('overprompt',)", "--config.elicit.concept=color"], "elicit.concept = 'color'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_every_mistake_is_one_line_and_writes_nothing(pictures, tmp_path, name):
    arguments, words = MISTAKES[name]
    done = command(CONFIG, f"--config.data.path={pictures}", f"--workdir={tmp_path / 'w'}", *arguments)
    assert done.code == 2 and words in done.err and done.err.count("\n") == 1, done.err
    assert not (tmp_path / "w").exists()


def test_celeba_is_planned_before_it_is_downloaded(tmp_path):
    done = command("--mode=plan", "--config=celeba:smoke")
    assert done.code == 0, done.err
    line = "'' is no folder: planned with the official 162,770 pictures to train on and 39,829 others, divided evenly"
    assert line in done.out and "study celeba, scale smoke: 2 runs" in done.out
    assert "pictures: 39.7 MB on each device" in done.out  # 202,599 of 8 x 8, and their rows
    done = command("--config=celeba:smoke", f"--workdir={tmp_path / 'w'}")
    assert done.code == 2 and "data.path = '': must name the folder" in done.err and not (tmp_path / "w").exists()
    done = command("--mode=plan", "--config=celeba:smoke", "--config.data.concepts=('Male',)")
    assert done.code == 2 and "must have 2 to 6 concepts, not 1 (Male)" in done.err


def test_the_cache_of_decoded_pictures_is_bounded_and_counted(pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sources.opening, "MAX_CACHE_BYTES", 10_000)
    folder = tmp_path / "cspace_jax" / "pictures"
    folder.mkdir(parents=True)
    for name in ("old.npy", "older.npy"):
        (folder / name).write_bytes(bytes(9_000))
        os.utime(folder / name, (1e9, 1e9))
    config = cs.load_config("images:smoke", **{"data.path": str(pictures)})
    pool = sources.opening.open_source(config.data).pool["pictures"]
    (kept,) = folder.iterdir()
    assert kept.stat().st_size >= pool.nbytes == 120 * 8 * 8 * 3 > 10_000
    own = tmp_path / "own"
    own.mkdir()
    (own / "thesis.pdf").write_bytes(bytes(20_000))
    data = dataclasses.replace(config.data, cache_dir=str(own))
    assert sources.opening.open_source(data).pool["pictures"].shape == pool.shape
    assert (own / "thesis.pdf").exists()
    cs.preview(config)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("disk at most")]
    assert line.endswith("23.5 kB of decoded pictures in data.cache_dir")


def test_a_source_that_was_not_opened_says_so():
    with pytest.raises(cs.UserError, match="not opened yet"):
        source_of(DataConfig(source="images", path=str(pathlib.Path("never"))))

"""The config files: valid at every scale, faithful at the paper's, loadable from anywhere."""

import ast
import dataclasses
import json
import os
import pathlib
import shlex
import subprocess
import sys

import faces
import jax
import numpy as np
import pytest

from cspace_jax.config import SCALES, Config, config_files, from_config_dict, reading, save_steps, to_dict
from cspace_jax.config.schema import DGP, REPEATED
from cspace_jax.cost import memory, operations
from cspace_jax.errors import UserError
from cspace_jax.evaluation import protocols
from cspace_jax.pipeline import elicit, image_source
from cspace_jax.studies import loading

ROOT = pathlib.Path(__file__).resolve().parents[2]
STUDIES = sorted(path.stem for path in (ROOT / "configs").glob("*.py") if path.stem != "base")


def study(name: str):
    return config_files.load(ROOT / "configs" / f"{name}.py")


def test_every_file_of_a_study_is_known_by_its_name_and_has_a_config():
    assert set(loading.STUDIES) == set(STUDIES) and len(loading.STUDIES) == len(STUDIES)
    assert loading.STUDIES[0] == "signal"


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("scale", SCALES)
def test_every_config_file_is_valid_at_every_scale_with_every_variant(name, scale):
    module = study(name)
    config = from_config_dict(module.get_config(scale))
    assert (config.study, config.scale) == (name, scale)
    variants = list(module.sweep())
    assert len(variants) >= 3
    for variant in variants:
        source = module.get_config(scale)
        source.update_from_flattened_dict(variant)
        made = from_config_dict(source)
        if made.data.source == DGP:
            elicit.check(dataclasses.replace(made, elicit=protocols.expand(made.elicit, made.data.active)))
        assert REPEATED in variant.get("elicit.protocols", (REPEATED,))  # naive prompting is asked as often
        leaves = reading.flatten(to_dict(made))
        for field, value in variant.items():
            assert leaves[field] == (list(value) if isinstance(value, tuple) else value)


def test_config_file_defaults_agree_with_the_dataclasses():
    source = study("base").get_config("signal", "paper")
    assert from_config_dict(source) == Config(study="signal", scale="paper")
    assert reading.flatten(source.to_dict()).keys() == reading.flatten(to_dict(from_config_dict(source))).keys()


def test_paper_grids_are_the_published_ones():
    signal = from_config_dict(study("signal").get_config("paper"))
    assert signal.grid.num_runs == 100 and signal.grid.sep_size == (0.4,)
    assert list(signal.grid.sep_col) == pytest.approx(np.linspace(0.1, 0.8, 20), abs=6e-4)
    assert (signal.save.start, signal.save.count, signal.optim.steps) == (500, 60, 20_000)
    size = from_config_dict(study("signal_size").get_config("paper"))
    assert size.grid.num_runs == 100 and size.grid.sep_col == (0.4,)
    assert list(size.grid.sep_size) == pytest.approx(np.linspace(0.2, 0.4, 20), abs=6e-4)
    grid = from_config_dict(study("signal_grid").get_config("paper"))
    assert grid.grid.num_runs == 245
    assert (save_steps(grid.save, grid.optim.steps)[0], grid.save.count) == (10, 50)


def test_quick_scale_has_enough_levels_and_seeds():
    grid = from_config_dict(study("signal").get_config("quick")).grid
    assert len(grid.sep_col) >= 3 and len(grid.seeds) >= 2


def test_no_scale_follows_the_backend(monkeypatch):
    module = study("signal")
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert module.get_config().scale == "quick"
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert module.get_config().scale == "paper"


@pytest.mark.parametrize("name", STUDIES)
def test_unknown_scale_names_the_allowed_ones(name):
    with pytest.raises(UserError, match="scale = 'papr': must be one of smoke, quick, paper, did you mean 'paper'"):
        study(name).get_config("papr")


@pytest.mark.parametrize("name", STUDIES)
def test_config_docstring_gives_the_command(name):
    text = ast.get_docstring(ast.parse((ROOT / "cspace_jax" / "studies" / f"{name}.py").read_text()))
    assert f"python -m cspace_jax.main --config=configs/{name}.py" in text


PROGRAM = """
from absl import app, flags
from ml_collections import config_flags
from cspace_jax.config import from_config_dict
flag = config_flags.DEFINE_config_file("config")
app.run(lambda _: print(from_config_dict(flag.value)))
"""


def run_with_flags(cwd: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", PROGRAM, *arguments]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=1200)


def test_config_file_loads_from_the_root_and_takes_overrides():
    done = run_with_flags(
        ROOT,
        "--config=configs/signal.py:smoke",
        "--config.grid.sep_col=(0.2, 0.5, 0.8)",
        "--config.grid.seeds=7",
        "--config.optim.clip=1",
        "--config.data.active=('color', 'size', 'bg_color')",
        "--config.probe.data=((0.2, 0.1, 0.2, False), (0.8, 0.4, 0.2, True))",
    )
    assert done.returncode == 0, done.stderr
    for piece in ("seeds=(7,)", "sep_col=(0.2, 0.5, 0.8)", "clip=1.0", "'bg_color'", "(0.8, 0.4, 0.2, True)", "smoke"):
        assert piece in done.stdout


def test_config_file_loads_by_absolute_path_beside_another_package_named_configs(tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "__init__.py").write_text("raise RuntimeError('foreign package')\n")
    done = run_with_flags(tmp_path, f"--config={ROOT / 'configs' / 'signal_size.py'}")
    assert done.returncode == 0, done.stderr
    assert "study='signal_size', scale='quick'" in done.stdout


def own_file(tmp_path: pathlib.Path, *lines: str) -> str:
    """The study of a user in another folder, as the README shows it."""
    head = ["import numpy as np", "from cspace_jax.studies import base", "", "", "def get_config(scale=None):"]
    body = ["    config = base.get_config('mine', scale)", *(f"    {line}" for line in lines), "    return config", ""]
    (tmp_path / "mine.py").write_text("\n".join([*head, *body]))
    return f"{tmp_path / 'mine.py'}:smoke"


def test_the_readmes_file_of_ones_own_is_a_study(tmp_path):
    readme = (pathlib.Path(__file__).resolve().parents[2] / "README.md").read_text()
    code = readme.split("A study of your own")[1].split("```python\n")[1].split("```")[0]
    (tmp_path / "mine.py").write_text(code)
    config = loading.configure(f"{tmp_path / 'mine.py'}:quick", {})
    assert (config.study, config.scale, config.grid.sep_col) == ("mine", "quick", (0.2, 0.5, 0.8))


def test_a_study_of_ones_own_may_hold_ranges_arrays_and_whole_floats(tmp_path):
    name = own_file(
        tmp_path, "config.grid.sep_col = np.linspace(0.2, 0.8, 3, dtype=np.float32)", "config.grid.seeds = range(3)",
        "config.save.steps = np.array([2.0, 4.0])", "config.optim.steps = 1e1", "config.optim.clip = np.float64(0.5)",
    )  # fmt: skip
    config = loading.configure(name, {})
    assert config.grid.sep_col == (pytest.approx(0.2), 0.5, 0.8) and config.grid.sep_col[2] == 0.8
    assert (config.grid.seeds, config.save.steps, config.optim.steps) == ((0, 1, 2), (2, 4), 10)
    assert type(config.optim.clip) is float and json.loads(json.dumps(to_dict(config)))["grid"]["seeds"] == [0, 1, 2]
    swept = loading.configure(name, {"sep_size": np.linspace(0.2, 0.4, 2), "seeds": range(2)})
    assert (swept.grid.sep_size, swept.grid.seeds) == ((0.2, 0.4), (0, 1))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("config.grid.sep_colour = (0.2,)", "AttributeError: unknown field 'sep_colour', did you mean 'sep_col'?"),
        ("config.optim.steps = 'many'", "TypeError: "),
        ("config.optim.steps = 1.5", "TypeError: "),
        ("config.optim.steps = missing", "NameError: name 'missing' is not defined"),
        ("np.linspace(0, 1, 'three')", "TypeError: "),
    ],
)
def test_a_mistake_in_a_study_of_ones_own_names_its_line(line, words, tmp_path):
    name = own_file(tmp_path, "config.grid.seeds = (1,)", line)
    with pytest.raises(UserError) as raised:
        loading.configure(name, {})
    assert words in str(raised.value) and str(raised.value).endswith(f"({tmp_path / 'mine.py'}, line 8)")


def test_the_command_of_a_configuration_leads_back_to_it():
    from cspace_jax.cli import arguments
    from cspace_jax.studies import loading

    overrides = {"grid.seeds": (3, 4), "network.channels": (8, 16), "optim.decay": "cosine", "data.blur": 0.5}
    config = loading.configure("signal:quick", overrides | {"elicit.protocols": ("overprompt", "latent")})
    command = loading.command_of(config, config)
    assert command.startswith("python -m cspace_jax.main --config=signal:quick --workdir=NEW ")
    words = shlex.split(command)[3:]
    fields = dict(word.removeprefix("--config.").split("=", 1) for word in words if word.startswith("--config."))
    read = {name: ast.literal_eval(value) if value[0] in "(0123456789" else value for name, value in fields.items()}
    assert loading.configure("signal:quick", read) == config
    mine = from_config_dict(to_dict(config) | {"study": "mine"})
    other = loading.command_of(from_config_dict(to_dict(mine) | {"grid": {"seeds": (5,)}}), mine)
    assert "--config=YOUR_FILE.py:quick" in other and "--config.grid.seeds=(5,)" in other
    assert arguments.values(words, "config") == ["signal:quick"]


def test_the_papers_study_of_faces_has_its_size(tmp_path):
    """9,806,723 parameters of the network and two of the schedule; 1.8 TFLOP a step and 118 MB of state a run."""
    faces.write_celeba(tmp_path, 400)
    config = from_config_dict(study("celeba").get_config("paper"))
    data = dataclasses.replace(config.data, path=str(tmp_path), images_per_class=0, cache_dir=str(tmp_path / "cache"))
    config = dataclasses.replace(config, data=data, probe=dataclasses.replace(config.probe, batch_size=16))
    image_source.open_and_check(config)
    assert operations.parameters(config) == 9_806_723 + 2
    assert operations.step_flops(config) == pytest.approx(1.8e12, rel=0.05)
    assert memory.state_bytes(config) == pytest.approx(118e6, rel=0.01)


def test_three_concepts_train_on_four_classes_and_probe_all_eight():
    config = from_config_dict(study("three").get_config("paper"))
    assert (config.data.pool_images, config.data.train_images) == (8_192, 6_963)
    assert 8 * config.probe.images_per_class * len(config.probe.data) == 32_768

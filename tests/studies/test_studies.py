"""The config files: valid at every scale, faithful at the paper's, loadable from anywhere."""

import ast
import dataclasses
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from configs import ROOT, STUDIES, study
from cspace_jax.config import SCALES, from_config_dict, reading, save_steps, to_dict
from cspace_jax.config.protocol_names import REPEATED
from cspace_jax.config.schema import DGP
from cspace_jax.evaluation import protocols
from cspace_jax.pipeline import elicit

pytestmark = pytest.mark.network  # programs of all studies are traced


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

"""The package as users install it, outside the repository: from a wheel and an sdist, and by the notebook itself."""

import ast
import json
import pathlib
import shutil
import site as sites
import subprocess
import sys
import tarfile
import venv
import zipfile

import pytest
from commands import NARROW, environment

ROOT = pathlib.Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "experiments" / "colab.ipynb"
FIGURES = "--config.figures=('fig6',)"
FILES = ("pyproject.toml", "README.md", "LICENSE", "NOTICE")
BUILD = "import sys; from setuptools import build_meta as b; getattr(b, sys.argv[1])(sys.argv[2])"
PROGRAM = """
import pathlib, sys
import cspace_jax as cs
assert pathlib.Path(cs.__file__).is_relative_to(sys.argv[1]), cs.__file__
from cspace_jax.analysis import published
assert len(published.load_published()) == 2
names = ("signal", "signal_size", "signal_grid", "hidden", "guidance", "underspec")
print([cs.load_config(f"{name}:quick").grid.num_runs for name in names])
"""
EXECUTE = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], 4)
client = nbclient.NotebookClient(notebook, kernel_name="clean", timeout=1200, resources={"metadata": {"path": "."}})
try:
    client.execute()
except nbclient.exceptions.CellExecutionError:
    pass
nbformat.write(notebook, sys.argv[2])
"""


def build(source, what, out):
    """Build an sdist or a wheel as pip does; returns the file."""
    line = [sys.executable, "-c", BUILD, f"build_{what}", str(out)]
    done = subprocess.run(line, cwd=source, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    return next(out.iterdir())


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The wheel, the sdist, and the wheel that is built from the sdist."""
    root = tmp_path_factory.mktemp("built")
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "cspace_jax", root / "source" / "cspace_jax", ignore=ignored)
    for name in FILES:
        shutil.copy(ROOT / name, root / "source")
    for out in ("sdist", "wheel", "again"):
        (root / out).mkdir()
    sdist, wheel = build(root / "source", "sdist", root / "sdist"), build(root / "source", "wheel", root / "wheel")
    with tarfile.open(sdist) as archive:
        archive.extractall(root / "unpacked", filter="data")
    (unpacked,) = (root / "unpacked").iterdir()
    return wheel, sdist, build(unpacked, "wheel", root / "again")


def clean_environment(root):
    """Make an environment that has all that the tests have, but not this package; returns its Python."""
    venv.create(root / "env", with_pip=False)
    others = root / "others"
    others.mkdir()
    for folder in sites.getsitepackages():
        for entry in pathlib.Path(folder).iterdir():
            if "cspace_jax" not in entry.name and entry.suffix != ".pth" and not (others / entry.name).exists():
                (others / entry.name).symlink_to(entry)
    own = next((root / "env" / "lib").glob("python*/site-packages"))
    (own / "others.pth").write_text(f"{others}\n")
    return root / "env" / "bin" / "python"


@pytest.fixture(scope="module")
def python(built, tmp_path_factory):
    """The Python of an environment that the wheel was installed into."""
    found = clean_environment(tmp_path_factory.mktemp("installed"))
    line = [found, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", built[0]]
    done = subprocess.run(line, capture_output=True, text=True, timeout=1200, env=alone())
    assert done.returncode == 0, done.stderr
    return found


def alone(**more):
    """Environment variables that do not lead to the repository."""
    return {name: value for name, value in environment(**more).items() if name != "PYTHONPATH"}


def run(cwd, *line, **more):
    return subprocess.run(line, cwd=cwd, env=alone(**more), capture_output=True, text=True, timeout=1200)


def test_wheel_and_sdist_hold_the_same_files_with_all_that_is_no_module(built):
    wheel, sdist, again = built
    contents = [
        {info.filename: info.CRC for info in zipfile.ZipFile(file).infolist() if not info.filename.endswith("RECORD")}
        for file in (wheel, again)
    ]
    assert contents[0] == contents[1]
    ours = {str(path.relative_to(ROOT)) for path in (ROOT / "cspace_jax").rglob("*") if path.is_file()}
    ours = {name for name in ours if "__pycache__" not in name}
    assert {name for name in contents[0] if ".dist-info/" not in name} == ours
    assert {"cspace_jax/py.typed", "cspace_jax/analysis/published.json", "cspace_jax/explorer/assets/page.js"} <= ours
    with tarfile.open(sdist) as archive:
        assert {*FILES} <= {name.partition("/")[2] for name in archive.getnames()}


def test_studies_are_known_by_name_outside_the_repository(python, tmp_path):
    done = run(tmp_path, python, "-c", PROGRAM, python.parents[1])
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[6, 6, 8, 5, 4, 10]\n"


def test_the_command_takes_a_study_by_name(python, tmp_path):
    cspace = python.with_name("cspace")
    again = {"CSPACE_JAX_RESTARTED": "", "GLIBC_TUNABLES": ""}  # so that the allocator is set, which starts it anew
    done = run(tmp_path, cspace, "--config=signal:quick", "--workdir=w", "--config.optim.clip=0.0", **again)
    assert (done.returncode, done.stderr) == (2, "error: optim.clip = 0.0: must be above 0\n")
    assert not (tmp_path / "w").exists()
    done = run(tmp_path, cspace, "--version")
    assert done.returncode == 0 and done.stdout.startswith("cspace_jax 0.1.0 (jax ")


@pytest.fixture(scope="module")
def drive(python, tmp_path_factory):
    """A folder in which the installed command carried out a study, where the notebook keeps it."""
    folder = tmp_path_factory.mktemp("drive")
    line = ("--config=hidden:smoke", "--workdir=cspace_jax/hidden_smoke", *NARROW, FIGURES)
    done = run(folder, python.with_name("cspace"), *line)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_command_carries_out_a_study_and_writes_its_page(drive):
    workdir = drive / "cspace_jax" / "hidden_smoke"
    page = (workdir / "report.html").read_text()
    assert "<h1>hidden</h1>" in page and "page.js" not in page and (workdir / "figures" / "fig6.png").exists()


def execute(notebook, folder, root):
    """Execute a notebook in a folder with a clean kernel; returns its cells and every output as text."""
    python = clean_environment(root)
    spec = {"argv": [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"], "display_name": "clean"}
    (root / "kernels" / "clean").mkdir(parents=True)
    (root / "kernels" / "clean" / "kernel.json").write_text(json.dumps({**spec, "language": "python"}))
    (root / "in.ipynb").write_text(json.dumps(notebook))
    # As in a session of its own: the package decides how many devices a CPU has.
    env = {name: value for name, value in alone(JUPYTER_PATH=str(root)).items() if name != "JAX_NUM_CPU_DEVICES"}
    line = [sys.executable, "-c", EXECUTE, str(root / "in.ipynb"), str(root / "out.ipynb")]
    done = subprocess.run(line, cwd=folder, env=env, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    cells = [one for one in json.loads((root / "out.ipynb").read_text())["cells"] if one["cell_type"] == "code"]
    return cells


def shown(cell):
    """What a cell printed, returned or failed with, as text."""
    parts = []
    for one in cell["outputs"]:
        text = one.get("text") or one.get("traceback") or one.get("data", {}).get("text/plain", "")
        parts.append("".join(text))
    return "\n".join(parts)


def with_cell(notebook, source):
    """Return the notebook with one more cell after that of the parameters."""
    cells = list(notebook["cells"])
    place = next(i for i, cell in enumerate(cells) if "parameters" in cell["metadata"].get("tags", [])) + 1
    cells.insert(place, {"cell_type": "code", "id": "more", "metadata": {}, "outputs": [], "execution_count": None,
                         "source": source})  # fmt: skip
    return {**notebook, "cells": cells}


def edited(**values):
    """Return the notebook with other values of names that are set to text in its cells."""
    text = NOTEBOOK.read_text()
    for name, value in values.items():
        empty = f'"{name} = \\"\\"  # @param'
        assert text.count(empty) == 1
        text = text.replace(empty, empty.replace('\\"\\"', f'\\"{value}\\"'))
    return json.loads(text)


def test_the_notebook_without_a_package_stops_with_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    first, *others = execute(edited(), tmp_path / "empty", tmp_path)
    assert shown(first).startswith("PACKAGE is empty") and shown(first).count("\n") == 0
    assert not any(cell["outputs"] for cell in others)


def test_the_notebook_goes_on_from_a_wheel_in_an_empty_folder_on_two_devices(built, drive, tmp_path):
    """What it trains itself is carried out in tests/long/test_experiments.py."""
    (tmp_path / "empty").mkdir()
    workdir = drive / "cspace_jax" / "hidden_smoke"
    before = [(workdir / name).read_bytes() for name in ("metrics.jsonl", "concept_space.csv")]
    (workdir / "report.html").unlink()
    fields = dict(one.removeprefix("--config.").split("=", 1) for one in (*NARROW, FIGURES))
    more = {name: ast.literal_eval(value) for name, value in fields.items()}
    notebook = with_cell(edited(PACKAGE=built[0], DRIVE=drive), f"STUDY, FIELDS = 'hidden:smoke', {more!r}")
    cells = execute(notebook, tmp_path / "empty", tmp_path)
    outputs = [one for cell in cells for one in cell["outputs"]]
    assert [one for one in outputs if one["output_type"] == "error"] == []
    text = "\n".join(map(shown, cells))
    assert "2 x cpu (cpu)" in text and "2 runs x 6 steps" in text and "(8, 8, 8, 3)" in text
    assert [(workdir / name).read_bytes() for name in ("metrics.jsonl", "concept_space.csv")] == before
    assert (workdir / "report.html").exists() and list((tmp_path / "empty").iterdir()) == []
    pages = ["".join(one["data"]["text/html"]) for one in outputs if "text/html" in one.get("data", {})]
    (page,) = [one for one in pages if one.startswith("<iframe srcdoc=")]
    assert len(page) > 5_000_000  # with its program

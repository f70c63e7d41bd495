"""The package as users install it: a wheel, outside the repository."""

import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = """
import pathlib, sys
import cspace_jax as cs
assert pathlib.Path(cs.__file__).is_relative_to(sys.argv[1]), cs.__file__
from cspace_jax.analysis import published
assert len(published.load_published()) == 2
names = ("signal", "signal_size", "signal_grid", "hidden", "guidance", "underspec")
print([cs.load_config(f"{name}:quick").grid.num_runs for name in names])
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder that a built wheel is unpacked into."""
    root = tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "cspace_jax", root / "source" / "cspace_jax", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, root / "source")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    done = subprocess.run([*build, "-w", str(root), str(root / "source")], capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    (wheel,) = root.glob("cspace_jax-*.whl")
    zipfile.ZipFile(wheel).extractall(root / "site")
    return root / "site"


def run(site, cwd, *line, **more):
    env = {**os.environ, "PYTHONPATH": str(site), "JAX_PLATFORMS": "cpu", "CSPACE_JAX_RESTARTED": "1", **more}
    return subprocess.run([sys.executable, *line], cwd=cwd, env=env, capture_output=True, text=True, timeout=1200)


def test_studies_are_known_by_name_outside_the_repository(site, tmp_path):
    done = run(site, tmp_path, "-c", PROGRAM, str(site))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[6, 6, 8, 5, 4, 15]\n"


def test_the_wheel_has_the_command_and_says_that_it_is_typed(site):
    (entries,) = site.glob("cspace_jax-*.dist-info/entry_points.txt")
    assert entries.read_text().split() == ["[console_scripts]", "cspace", "=", "cspace_jax.main:main"]
    assert (site / "cspace_jax" / "py.typed").exists()


def test_the_command_takes_a_study_by_name(site, tmp_path):
    (tmp_path / "cspace").write_text("import sys\nfrom cspace_jax.main import main\nsys.exit(main())\n")  # as pip's
    line = ("cspace", "--config=signal:quick", "--workdir=w", "--config.optim.clip=0.0")
    done = run(site, tmp_path, *line, CSPACE_JAX_RESTARTED="", GLIBC_TUNABLES="")
    assert (done.returncode, done.stderr) == (2, "error: optim.clip = 0.0: must be above 0\n")
    assert not (tmp_path / "w").exists()

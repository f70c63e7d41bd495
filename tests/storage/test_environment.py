"""What env.json says of a process: its devices, settings and flags."""

import os
import pathlib
import subprocess
import sys

import pytest

from cspace_jax.storage.environment import environment

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.mark.system
@pytest.mark.parametrize(
    ("variables", "count"),
    [({}, 2), ({"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}, 3), ({"JAX_NUM_CPU_DEVICES": "4"}, 4)],
)
def test_a_number_of_devices_that_the_user_gave_is_taken(variables, count):
    code = (
        "import os; os.sched_getaffinity = lambda pid: set(range(8))\n"
        "from cspace_jax import startup; startup.set_up_jax(); import jax; print(jax.device_count())"
    )
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_NUM", "XLA_FLAGS"))}
    environment = {**bare, "PYTHONPATH": str(ROOT), **variables}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == f"{count}\n"


@pytest.mark.system
@pytest.mark.parametrize("platform", ["tpu", "cuda", "cpuu"])
def test_a_backend_that_cannot_start_is_one_line(platform):
    code = "from cspace_jax.cli import scripts\nfrom cspace_jax.studies import base\n"
    code += "scripts.exit_on_user_error(lambda _: base.default_scale(), ())"
    environment = {**os.environ, "JAX_PLATFORMS": platform, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: JAX_PLATFORMS = '{platform}': the backend cannot be started (")
    assert line.endswith("JAX_PLATFORMS=cpu takes the CPU")


def test_variables_that_jax_reads_are_recorded_and_no_others(monkeypatch):
    monkeypatch.setenv("JAX_ENABLE_PGLE", "1")
    monkeypatch.setenv("TF_VAR_password", "secret")
    found = environment()["variables"]
    assert found["JAX_ENABLE_PGLE"] == "1" and "TF_VAR_password" not in found and "HOME" not in found

"""The command and Python give a study the same numbers."""

import json
import os
import pathlib
import subprocess
import sys

from commands import ROOT, UNOPTIMISED

from cspace_jax.storage.metrics import read_metrics
from experiments import torture_bench

PROGRAM = """
import sys
import cspace_jax as cs
cs.set_up()
cs.run(cs.open_study(sys.argv[1]).config, sys.argv[2], "train")
"""


def test_a_smoke_study_is_trained_to_the_same_numbers_from_the_command_and_from_python(tmp_path):
    """Without the flags that the tests are compiled with; the command has one device, Python two."""
    bare = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")}
    variables, folders = {**bare, "PYTHONPATH": str(ROOT)}, (str(tmp_path / "a"), str(tmp_path / "b"))
    few = ("--config.grid.sep_col=(0.2,)", "--config.optim.steps=6", "--config.save.count=2", "--mode=train")
    command = [sys.executable, "-m", "cspace_jax.main", *torture_bench.STUDY, *few, f"--workdir={folders[0]}"]
    for line in (command, [sys.executable, "-c", PROGRAM, *folders]):
        subprocess.run(line, env=variables, capture_output=True, check=True)
    ours, theirs = (read_metrics(pathlib.Path(one) / "metrics.jsonl") for one in folders)
    assert len(ours) == 2 and [row | {"steps_per_second": 0} for row in ours] == [
        row | {"steps_per_second": 0} for row in theirs
    ]
    flags = [json.loads((pathlib.Path(one) / "env.json").read_text())["xla_flags"] for one in folders]
    assert flags == [UNOPTIMISED] * 2

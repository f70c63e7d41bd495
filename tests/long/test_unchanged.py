"""Numbers stay those of earlier versions: tables of smoke studies, a workdir whose training an older version began."""

import os
import pathlib
import tarfile

import pandas as pd
import pytest
from commands import assert_same_table, command, study

from experiments import narrow

# How ml_collections loads config files.
pytestmark = pytest.mark.filterwarnings(r"ignore:the load_module\(\) method is deprecated:DeprecationWarning")
GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden"


def test_training_that_an_older_version_began_ends_with_its_numbers(tmp_path):
    """The folder holds config, metrics, a cached probe, parameters and state of step 2 of 4, written at 9727bb5."""
    with tarfile.open(GOLDEN / "old_workdir" / "stopped.tar.gz") as stored:
        stored.extractall(tmp_path, filter="data")
    folder = tmp_path / "stopped"
    probe = {path.name: path.read_bytes() for path in (folder / "probe").iterdir()}
    overrides = [
        "--config.grid.seeds=(0,)",
        *narrow.FLAGS,
        "--config.optim.steps=4",
        "--config.save.steps=(2, 4)",
        "--config.figures=()",
        "--config.engine.state_seconds=0.0",
        "--config.elicit.protocols=('overprompt', 'latent', 'patch')",
        "--config.elicit.overprompt=(1.0,)",
        "--config.elicit.alpha=(1.0,)",
    ]
    done = command(study("hidden"), f"--workdir={folder}", *overrides)
    assert done.code == 0, done.err
    assert "(4 steps, cached)" in done.out
    assert {path.name: path.read_bytes() for path in (folder / "probe").iterdir()} == probe
    assert_same_table(folder / "concept_space.csv", GOLDEN / "old_workdir" / "concept_space.csv")
    assert [path.name for path in (folder / "elicit").iterdir()] == ["3666a2fd31e6"]


@pytest.mark.skipif("CSPACE_JAX_ALL_STUDIES" not in os.environ, reason="minutes; set CSPACE_JAX_ALL_STUDIES=1")
@pytest.mark.parametrize("name", sorted(file.stem for file in (GOLDEN / "smoke").glob("*.csv")))
def test_every_smoke_study_gives_the_numbers_of_the_first_version(name, tmp_path):
    """Those rows that it had: protocols were added since."""
    done = command(study(name), f"--workdir={tmp_path / 'w'}", "--config.figures=()")
    assert done.code == 0, done.err
    rows = ["run", "step", "protocol", "klass", "concept"]
    old, new = (
        pd.read_csv(file, dtype={"klass": str, "bit": str}).set_index(rows)
        for file in (GOLDEN / "smoke" / f"{name}.csv", tmp_path / "w" / "concept_space.csv")
    )
    assert old.index.isin(new.index).all()
    for kind, table in (("old", old), ("new", new.loc[old.index, old.columns])):
        table.reset_index().to_csv(tmp_path / f"{kind}.csv", index=False)
    assert_same_table(tmp_path / "new.csv", tmp_path / "old.csv")
    print(name, "same bytes:", (tmp_path / "new.csv").read_bytes() == (tmp_path / "old.csv").read_bytes())

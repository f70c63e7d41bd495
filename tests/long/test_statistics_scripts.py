"""The scripts that measure the statistics themselves: coverage of intervals, false alarms of claims."""

import hashlib
import json
import pathlib

import numpy as np
import pytest
import synthetic
import xarray as xr

from cspace_jax.cli import scripts
from cspace_jax.config import config_files
from cspace_jax.errors import UserError

EXPERIMENTS = pathlib.Path(__file__).resolve().parents[2] / "experiments"
coverage, false_alarms = (config_files.load(EXPERIMENTS / f"{name}.py") for name in ("coverage", "false_alarms"))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    file = tmp_path_factory.mktemp("results") / "signal.nc"
    ds = synthetic.dataset(levels=(0.1, 0.2, 0.8), seeds=tuple(range(0, 600, 100)))
    ds.to_netcdf(file, engine="h5netcdf")
    return file


def test_intervals_cover_at_least_93_percent_from_three_seeds_on(study, tmp_path, capsys):
    coverage.run(["--studies=1500", f"--results={study}", f"--out={tmp_path / 'c.json'}"])
    written = json.loads((tmp_path / "c.json").read_text())
    assert written["results"] == {"signal.nc": hashlib.sha256(study.read_bytes()).hexdigest()}
    found = written["rows"]
    assert any(name.startswith("fitted, beta") for name in found)
    assert sum(name.startswith("rank correlation") for name in found) == len(coverage.CORRELATIONS)
    for name, row in found.items():
        assert row["2"] is None
        if name in coverage.STUDENT:
            assert row["3"] < 0.7 and row["5"] < 0.8  # why differences have the interval of their median
            continue
        assert all(share is None or share >= 0.92 for share in row.values()), (name, row)  # .93 in 4,000 studies
        assert (row["3"] is None) == (row["5"] is None) == name.startswith("median")
    assert "Coverage of 95 % intervals" in capsys.readouterr().out


@pytest.mark.parametrize("studies", [0, -1])
def test_coverage_needs_a_study(studies):
    with pytest.raises(UserError, match=f"^studies = {studies}: must be at least 1$"):
        coverage.run([f"--studies={studies}"])


def test_shuffled_studies_are_rarely_called_shown(study, tmp_path, capsys):
    false_alarms.run([f"--results={study}", "--shuffles=40", f"--out={tmp_path / 'f.json'}"])
    found = json.loads((tmp_path / "f.json").read_text())
    assert [row["claim"] for row in found["rows"]] == ["a", "b", "c", "j"]
    assert found["results"] == {"signal.nc": hashlib.sha256(study.read_bytes()).hexdigest()}
    for row in found["rows"]:
        assert (
            row["told"] > 20 and row["shown"] <= 6 and row["contradicted"] <= 6
        )  # 40 draws of 5 %: more than 6 in one of 200 such tests
    assert "40 shuffled studies" in capsys.readouterr().out


def test_drawn_studies_of_several_classes_take_part(tmp_path, capsys):
    false_alarms.run(["--several", "--shuffles=2", f"--out={tmp_path / 's.json'}"])
    found = json.loads((tmp_path / "s.json").read_text())
    letters = {study: [row["claim"] for row in found["rows"] if row["study"] == study]
               for study in ("drawn levels", "drawn protocols")}  # fmt: skip
    assert letters["drawn levels"] == list("abcj") and set(letters["drawn protocols"]) > set("cdefi")
    assert all(row["told"] == 2 for row in found["rows"]) and found["results"] == {}
    ends = capsys.readouterr()
    assert "20/20" in ends.err and "[" in ends.out
    for ds in false_alarms.drawn_studies.studies():
        assert (~ds["trained"].values).sum() == 4 and len(set(ds["seed"].values.tolist())) == 10


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--several", "--shuffles=0"], "shuffles = 0: must be at least 1"),
        ([], "name finished studies, or ask for drawn ones with --several"),
    ],
)
def test_no_shuffles_and_no_studies_are_one_line(flags, words):
    with pytest.raises(UserError, match=words):
        false_alarms.run(flags)


def test_shuffles_rearrange_within_seeds_and_keep_what_was_measured():
    names = ["naive", "latent", "latent_random", "overprompt"]
    rng = np.random.default_rng(0)
    values = {kind: rng.random((6, 2, 4, 3)) for kind in ("naive_split", "capability_split")}
    axes = ("run", "step", "protocol", "klass")
    ds = xr.Dataset({kind: (axes, array) for kind, array in values.items()}, {"protocol": names})
    ds = ds.assign_coords(seed=("run", [0, 0, 100, 100, 200, 200]))
    moved = [false_alarms.controls_within_seeds(ds, np.random.default_rng(draw)) for draw in range(20)]
    kept = [false_alarms.protocols_within_seeds(ds, np.random.default_rng(draw)) for draw in range(20)]
    for one in (*moved, *kept):
        one = one.transpose(*axes)
        for run in range(6):  # each seed and protocol holds what it held, in another order
            before, after = (
                sorted([*part["naive_split"].values[run, 0, 1:3, 0], *part["capability_split"].values[run, 0, 1:3, 0]])
                for part in (ds, one)
            )
            assert before == after
    control = [one.transpose(*axes)["capability_split"].values[:, :, 2] for one in kept]
    assert all(np.array_equal(one, values["capability_split"][:, :, 2]) for one in control)
    assert any(
        not np.array_equal(
            one.transpose(*axes)["capability_split"].values[:, :, 2], values["capability_split"][:, :, 2]
        )
        for one in moved
    )


@pytest.fixture(scope="module")
def protocols():
    """Eight seeds that turn; the intervention draws the class, overprompting nearly so, naive prompting not."""
    seeds = np.arange(0, 800, 100)
    ds = synthetic.dataset(levels=(0.2,), seeds=tuple(seeds.tolist()))
    names = ["naive", "latent", "latent_random", "overprompt", "overprompt_random"]
    values = np.full((8, ds.sizes["step"], 5, 4), 0.1)
    values[:, :, 1] = 0.9
    values[:, :, 3] = 0.8 + np.random.default_rng(0).normal(0.0, 0.1, 8)[:, None, None]
    axes = ("run", "step", "protocol", "klass")
    more = {name: (axes, values) for name in ("capability", "capability_split")}
    return ds.reindex(protocol=names).assign(more | {"naive_split": (axes, np.full(values.shape, 0.1))})


def test_overprompting_that_is_behind_by_the_margin_is_put_there(protocols):
    ask, margin = false_alarms.CLAIMS["f"].ask, false_alarms.claims_of_capability.MARGIN
    was = np.array(ask(protocols).details["minus_intervention"]["per_seed"])
    signs = set()
    for draw in range(10):
        moved = false_alarms.behind_within_seeds(protocols, np.random.default_rng(draw), "latent")
        now = np.array(ask(moved).details["minus_intervention"]["per_seed"])
        np.testing.assert_allclose(np.abs(now + margin), np.abs(was + margin), atol=1e-12)
        signs |= {tuple(np.sign((now + margin) / (was + margin)).tolist())}
        kept = [one.isel(protocol=[0, 1, 2, 4]).transpose(*protocols.dims) for one in (moved, protocols)]
        xr.testing.assert_equal(*kept)
    assert len(signs) > 5


def test_overprompting_that_is_behind_by_the_margin_is_rarely_called_not_behind(protocols, monkeypatch):
    """The claim itself answers: of 256 equally likely sums of signs 8 are as clear as its test asks for."""
    counts = false_alarms.behind_by_the_margin(protocols, 200)
    assert 0 < counts["not_behind"] <= 200 * false_alarms.testing.ALPHA + 3 * np.sqrt(200 * 0.033)
    assert counts["shown"] == counts["not_behind"]  # all other conditions are met
    monkeypatch.setattr(false_alarms.claims_of_capability, "not_behind", false_alarms.testing.sign_flip)
    assert false_alarms.behind_by_the_margin(protocols, 100)["not_behind"] == 0  # a claim that forgets its margin
    alone = protocols.isel(protocol=[0, 3, 4])
    assert false_alarms.behind_by_the_margin(alone, 1) is None


def test_the_weights_that_are_compared_are_exchanged():
    ds = xr.Dataset({"query_prob": (("run", "query"), np.arange(18.0).reshape(6, 3))})
    ds = ds.assign_coords(seed=("run", np.arange(6)), query_protocol=("query", ["guidance"] * 3))
    ds = ds.assign_coords(query_value=("query", ["0.0", "2.0", "5.0"]))
    moved = false_alarms.weights_within_seeds(ds, np.random.default_rng(1))["query_prob"].values
    exchanged = moved[:, 0] != ds["query_prob"].values[:, 0]
    assert 0 < exchanged.sum() < 6
    np.testing.assert_array_equal(moved[exchanged][:, :2], ds["query_prob"].values[exchanged][:, 1::-1])
    np.testing.assert_array_equal(moved[:, 2], ds["query_prob"].values[:, 2])


def test_the_effect_itself_is_there_before_it_is_shuffled(study):
    ds = false_alarms.results.open_results(study)
    assert false_alarms.CLAIMS["a"].ask(ds).verdict == "shown"


def test_a_study_that_tells_nothing_is_one_line(tmp_path):
    synthetic.dataset(levels=(0.8,), seeds=(0,)).to_netcdf(tmp_path / "one.nc", engine="h5netcdf")
    with pytest.raises(UserError, match="none of the claims can be told by these studies"):
        false_alarms.run([f"--results={tmp_path / 'one.nc'}"])
    with pytest.raises(SystemExit) as left:
        scripts.exit_on_user_error(false_alarms.run, [f"--results={tmp_path / 'none.nc'}"])
    assert left.value.code == 2

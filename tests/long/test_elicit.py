"""The stage that asks checkpoints with the battery: files, resuming, controls, and what it adds to the results."""

import json
import math
import re
import shutil

import jax
import numpy as np
import pytest
import tiny
from etils import epath
from tiny import copy_of, probe_of

from cspace_jax.analysis import capability, learning, report
from cspace_jax.engine.engine import Engine
from cspace_jax.errors import UserError
from cspace_jax.evaluation import protocols, sampling
from cspace_jax.pipeline import elicit, merged_batteries
from cspace_jax.pipeline.collect import naive
from cspace_jax.pipeline.evaluate import evaluate
from cspace_jax.pipeline.train import train
from cspace_jax.storage.evaluations import ELICITED, read_evaluation
from cspace_jax.storage.workdir import Workdir

# Studies are trained, or programs compiled, by the dozen.
pytestmark = pytest.mark.system
CONFIG = tiny.study(
    grid={"sep_col": (0.2,), "learning_rate": (0.05,)},  # so that six steps change what is drawn
    network={"channels": (4,)},
    diffusion={"schedule": "fixed_linear"},
    optim={"clip": 1.0},
    elicit={
        "protocols": ("overprompt", "overprompt_random", "latent", "patch"),
        "samples": 4,
        "overprompt": (0.0, 20.0, 40.0, 80.0, 160.0),
    },
)
QUERIES = 1 + 5 + 5 + 3 + 1


@pytest.fixture(scope="module")
def reader():
    return probe_of(CONFIG)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, reader):
    workdir = Workdir(epath.Path(tmp_path_factory.mktemp("work")))
    train(tiny.in_workdir(workdir, CONFIG))
    evaluate(tiny.in_workdir(workdir, CONFIG), reader)
    elicit.ask(tiny.in_workdir(workdir, CONFIG), reader)
    tiny.collected(workdir, CONFIG)
    return workdir


def files_of(workdir, config=CONFIG):
    return sorted(path for path in elicit.folder(tiny.in_workdir(workdir, config)).glob("*/*.npz"))


def test_every_save_and_the_initialisation_are_measured(finished):
    assert [path.name for path in files_of(finished)] == [f"step_{step:08d}.npz" for step in (0, 2, 5, 6)]
    raw = merged_batteries.load(tiny.in_workdir(finished, CONFIG)).raw
    assert raw[0]["prob_samples"].shape == (2, QUERIES, 1, 4, 2)
    # A network at initialisation returns its input: whatever it is asked, it draws the same.
    assert np.ptp(raw[0]["prob_samples"], axis=1).max() < 1e-5


def test_patching_the_last_checkpoint_with_itself_changes_nothing(finished):
    raw = merged_batteries.load(tiny.in_workdir(finished, CONFIG)).raw
    assert np.ptp(raw[6]["prob_samples"], axis=1).max() > 1e-3  # queries differ, far above the tolerances here
    np.testing.assert_allclose(raw[6]["prob_samples"][:, -1], raw[6]["prob_samples"][:, 0], atol=1e-5)


def test_results_hold_every_protocol_and_naive_prompting_as_it_was(finished, reader, tmp_path):
    ds = tiny.collected(finished, CONFIG)
    assert ds["protocol"].values.tolist() == ["naive", *CONFIG.elicit.protocols]
    assert not np.isnan(ds["capability"].isel(klass=3)).any() and np.isnan(ds["capability"].isel(klass=0)).all()
    assert (ds["status"] == "ok").all()
    # The best query's coordinates are those of the protocol, and its score is the capability.
    one = ds.sel(protocol="overprompt", klass="11")
    np.testing.assert_allclose(one["joint_prob"], one["capability"], rtol=1e-5)
    assert (ds["capability"] >= ds["capability_split"] - 1e-6).isel(klass=3).all()
    chosen = ds["query_protocol"].values == "overprompt"
    best = one["best_query"].values.astype(int)
    every = ds["query_prob"].isel(klass=3, query=chosen).transpose("run", "step", "query", "concept").values
    np.testing.assert_allclose(np.take_along_axis(every, best[:, :, None, None], 2)[:, :, 0], one["prob"], rtol=1e-6)
    plain = naive(tiny.in_workdir(finished, CONFIG), None)
    for name in ("prob", "joint_accuracy", "loss"):
        ours = ds[name].sel(protocol="naive") if "protocol" in ds[name].dims else ds[name]
        expected = plain[name].sel(protocol="naive") if "protocol" in plain[name].dims else plain[name]
        np.testing.assert_array_equal(ours.values, expected.values)


def test_an_interrupted_battery_goes_on(finished, reader, tmp_path):
    workdir = copy_of(finished, tmp_path)
    table = finished.table.read_bytes()
    kept, lost = files_of(workdir)[1:3]
    lost.unlink()
    before = kept.stat().mtime
    assert merged_batteries.load(tiny.in_workdir(workdir, CONFIG)) is None  # what is not complete is not shown
    elicit.ask(tiny.in_workdir(workdir, CONFIG), reader)
    tiny.collected(workdir, CONFIG)
    assert workdir.table.read_bytes() == table and kept.stat().mtime == before


def test_smaller_calls_give_the_same_numbers(finished, reader, tmp_path):
    workdir = copy_of(finished, tmp_path)
    for path in files_of(workdir):
        path.unlink()
    config = tiny.changed(CONFIG, elicit={"images_per_call": 16})  # four queries a call, the last call padded
    elicit.ask(tiny.in_workdir(workdir, config), reader)
    ours, theirs = (
        merged_batteries.load(tiny.in_workdir(workdir, config)).raw,
        merged_batteries.load(tiny.in_workdir(finished, CONFIG)).raw,
    )
    for step in theirs:
        # Steps this large magnify rounding; another query's answer would be .1 away.
        np.testing.assert_allclose(ours[step]["prob_samples"], theirs[step]["prob_samples"], atol=2e-3)


def test_answers_of_one_and_of_two_branches_come_back_in_the_order_of_their_queries(
    finished, reader, tmp_path, monkeypatch
):
    config = tiny.changed(
        CONFIG, elicit={"protocols": ("guidance", "overprompt"), "guidance": (3.0, 0.0, 1.0), "overprompt": (2.0,)}
    )
    found = []
    for name, one_branch in (("apart", protocols.ONE_BRANCH), ("together", ())):
        monkeypatch.setattr(protocols, "ONE_BRANCH", one_branch)
        study = tiny.in_workdir(copy_of(finished, tmp_path / name), config)
        elicit.ask(study, reader)
        found.append([np.load(path)["prob_samples"] for path in files_of(study.workdir, config)])
    for apart, together in zip(*found, strict=True):
        assert apart.shape[1] == 5
        np.testing.assert_allclose(apart, together, atol=2e-3)


def test_a_battery_in_passing_gives_the_same_answers_and_patching_is_refused(finished, reader, tmp_path):
    config = tiny.changed(CONFIG, elicit={"protocols": ("latent",), "alpha": (1.0,)})
    later = tiny.in_workdir(copy_of(finished, tmp_path), config)
    elicit.ask(later, reader)
    dropping = tiny.changed(config, save={"keep": "last"})
    study = tiny.in_workdir(Workdir(epath.Path(tmp_path / "w")), dropping)
    study.workdir.root.mkdir()
    train(study, reader)
    answers = {path.name: path.read_bytes() for path in files_of(study.workdir, dropping)}
    assert list(answers) == ["step_00000002.npz", "step_00000005.npz"]
    elicit.ask(study, reader)  # the initialisation and the step that was kept
    ours, theirs = ({p.name: p.read_bytes() for p in files_of(s.workdir, s.config)} for s in (study, later))
    assert ours == theirs and len(ours) == 4 and answers.items() <= ours.items()
    with pytest.raises(UserError, match=r"asks for patching, .* 2 of them are not kept: set save.keep=all"):
        elicit.check(tiny.changed(CONFIG, save={"keep": "last"}))
    elicit.check(dropping)
    elicit.check(CONFIG)


def test_another_battery_adds_to_the_first(finished, reader, tmp_path):
    workdir = copy_of(finished, tmp_path)
    config = tiny.changed(CONFIG, elicit={"protocols": ("patch", "overprompt+patch")})
    elicit.ask(tiny.in_workdir(workdir, config), reader)
    assert len(files_of(workdir)) == len(files_of(workdir, config)) == 4
    ds, before = tiny.collected(workdir, config), tiny.collected(finished, CONFIG)
    assert ds["protocol"].values.tolist() == [
        "naive",
        "patch",
        "overprompt+patch",
        "overprompt",
        "overprompt_random",
        "latent",
    ]
    for name in ("latent", "overprompt"):
        np.testing.assert_array_equal(ds["prob"].sel(protocol=name), before["prob"].sel(protocol=name))
    damaged = elicit.folder(tiny.in_workdir(workdir, CONFIG)) / elicit.DESCRIPTION
    damaged.write_text("{")
    with pytest.raises(UserError, match="battery.json is damaged"):
        merged_batteries.load(tiny.in_workdir(workdir, config))


def test_controls_are_joined_only_to_the_protocol_they_were_measured_with(finished, reader, tmp_path, capsys):
    """The first battery has overprompting with its random control; the second asks for other strengths."""
    workdir = copy_of(finished, tmp_path)
    config = tiny.changed(CONFIG, elicit={"protocols": ("overprompt", "patch"), "overprompt": (0.3,)})
    elicit.ask(tiny.in_workdir(workdir, config), reader)
    found = merged_batteries.load(tiny.in_workdir(workdir, config))
    assert list(dict.fromkeys(found.names)) == ["naive", "overprompt", "patch", "latent"]
    assert "overprompt_random of " in (said := capsys.readouterr().out)
    assert "measured with another battery of their protocol; ask for them again" in said
    both = tiny.changed(config, elicit={"protocols": ("overprompt", "overprompt_random"), "overprompt": (0.3,)})
    elicit.ask(tiny.in_workdir(workdir, both), reader)
    names = merged_batteries.load(tiny.in_workdir(workdir, both)).names
    assert [names.count(one) for one in ("overprompt", "overprompt_random")] == [1, 1]
    assert not capsys.readouterr().out


def test_a_control_that_came_first_is_not_paired_with_the_protocol_of_a_later_battery(
    finished, reader, tmp_path, capsys
):
    """The study asks for a control alone; its protocol stands in the battery that was asked before."""
    workdir = copy_of(finished, tmp_path)
    config = tiny.changed(CONFIG, elicit={"protocols": ("latent_random",)})
    elicit.ask(tiny.in_workdir(workdir, config), reader)
    found = merged_batteries.load(tiny.in_workdir(workdir, config))
    assert "latent" in found.names and "latent_random" not in found.names
    assert "latent_random of" in (said := capsys.readouterr().out) and "another battery of their protocol" in said
    config = tiny.changed(CONFIG, elicit={"protocols": ("overprompt_random",), "overprompt": (0.3,)})
    elicit.ask(tiny.in_workdir(workdir, config), reader)
    found = merged_batteries.load(tiny.in_workdir(workdir, config))
    assert [found.names.count(one) for one in ("overprompt", "overprompt_random")] == [5, 5]  # both of the first


def test_results_say_what_each_protocol_was_asked_with(finished, reader, tmp_path):
    """The configuration's own battery asks no patching and would take another step for it."""
    workdir = copy_of(finished, tmp_path)
    patched = tiny.changed(CONFIG, elicit={"protocols": ("patch",), "patch_step": 5})
    config = tiny.changed(CONFIG, elicit={"protocols": ("latent_shuffled", "latent"), "patch_step": 2})
    shutil.rmtree(elicit.folder(tiny.in_workdir(workdir, CONFIG)))
    for one in (patched, config):
        elicit.ask(tiny.in_workdir(workdir, one), reader)
    ds = tiny.collected(workdir, config)
    assert [learning.battery_field(ds, name, "patch_step") for name in ("patch", "latent")] == [5, 2]
    assert learning.samples_of(ds, battery=True) == 4
    del ds.attrs["batteries"]
    assert learning.battery_field(ds, "patch", "patch_step") == 2  # an older version's: the configuration's


def test_controls_that_an_older_version_drew_are_left_out(finished, tmp_path, capsys):
    workdir = copy_of(finished, tmp_path)
    file = elicit.folder(tiny.in_workdir(workdir, CONFIG)) / elicit.DESCRIPTION
    described = json.loads(file.read_text())
    del described["controls"], described["crc32"]
    file.write_text(json.dumps(described))
    found = merged_batteries.load(tiny.in_workdir(workdir, CONFIG))
    assert "overprompt_random" not in found.names and "overprompt" in found.names
    assert found.raw[2]["prob_samples"].shape[1] == len(found.names)
    assert "controls drawn by an older version; ask for them again" in capsys.readouterr().out


def test_a_battery_goes_on_with_fewer_images_where_memory_does_not_suffice(
    finished, reader, tmp_path, monkeypatch, capsys
):
    workdir, called = copy_of(finished, tmp_path), Engine.call
    last = files_of(workdir)[-1]
    expected = read_evaluation(last, ELICITED)
    last.unlink()

    def short(runner, function, static, *arguments, **options):
        if function is sampling.draw and static.microbatch_of(math.prod(static.shape)) > 3:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes")
        return called(runner, function, static, *arguments, **options)

    monkeypatch.setattr(Engine, "call", short)
    elicit.ask(tiny.in_workdir(workdir, CONFIG), reader)
    assert "out of memory: 3 images of a run at once are tried to ask" in capsys.readouterr().out
    for name, values in read_evaluation(last, ELICITED).items():
        np.testing.assert_allclose(values, expected[name], atol=2e-5)


def test_a_flipped_bit_of_a_description_is_noticed(finished, tmp_path):
    """Another protocol's name would stand above the answers."""
    workdir = copy_of(finished, tmp_path)
    file = elicit.folder(tiny.in_workdir(workdir, CONFIG)) / elicit.DESCRIPTION
    file.write_text(file.read_text().replace('"overprompt"', '"nverprompt"', 1))
    with pytest.raises(UserError, match="battery.json is damaged; remove"):
        merged_batteries.load(tiny.in_workdir(workdir, CONFIG))


def test_a_description_that_is_gone_is_written_again_or_said(finished, tmp_path, reader, capsys):
    workdir = copy_of(finished, tmp_path)
    study = tiny.in_workdir(workdir, CONFIG)
    file = elicit.folder(study) / elicit.DESCRIPTION
    before = file.read_bytes()
    file.unlink()
    merged_batteries.load(study)
    assert "its battery.json is gone; ask for the same once more" in capsys.readouterr().out
    elicit.ask(study, reader)
    assert file.read_bytes() == before and merged_batteries.load(study) is not None


def test_a_redefined_protocol_is_measured_anew(finished, monkeypatch):
    before = elicit.folder(tiny.in_workdir(finished, CONFIG))
    assert elicit.folder(tiny.in_workdir(finished, tiny.changed(CONFIG, elicit={"images_per_call": 3}))) == before
    monkeypatch.setattr(protocols, "PROTOCOLS", dict(protocols.PROTOCOLS))
    study = tiny.in_workdir(finished, tiny.changed(CONFIG, elicit={"protocols": ("mine",)}))

    @protocols.protocol("mine")
    def mine(query, target, value):
        return query

    first = elicit.folder(study)

    @protocols.protocol("mine")
    def mine(query, target, value):  # noqa: F811 (a notebook's cell that was edited and run again)
        return query.replace(conditioning=target.mean)

    assert len({before, first, elicit.folder(study)}) == 3


def test_a_missing_checkpoint_is_one_line_whose_advice_works(finished, reader, tmp_path):
    workdir = copy_of(finished, tmp_path)
    study = tiny.in_workdir(workdir, CONFIG)
    files_of(workdir)[1].unlink()
    shutil.rmtree(workdir.checkpoints / "wave_000" / "params" / "6")
    words = r"params/6 is missing; run --mode=train first; if it was lost or not kept .*, remove (.*) and (.*) to train"
    with pytest.raises(UserError, match=words) as refused:
        elicit.ask(study, reader)
    for folder in re.search(words, str(refused.value)).groups():
        shutil.rmtree(folder)
    train(study, reader)
    elicit.ask(study, reader)
    ours, theirs = ([path.read_bytes() for path in files_of(one)] for one in (workdir, finished))
    assert ours == theirs


def test_a_checkpoint_of_another_kind_of_conditioning_is_one_line(finished, reader, tmp_path):
    workdir = copy_of(finished, tmp_path)
    config = tiny.changed(CONFIG, network={"conditioning": "common_linear"}, elicit={"protocols": ("latent_shared",)})
    with pytest.raises(UserError) as error:
        elicit.ask(tiny.in_workdir(workdir, config), reader)
    assert "does not fit this configuration" in str(error.value) and "is absent there" in str(error.value)
    assert "\n" not in str(error.value)


def test_protocols_that_cannot_be_asked_with_are_refused_before_anything_is_done(monkeypatch):
    elicit.check(CONFIG)
    shared = tiny.changed(CONFIG, elicit={"protocols": ("latent_shared",)})
    with pytest.raises(UserError, match="needs one embedding shared by all blocks"):
        elicit.check(shared)
    elicit.check(tiny.changed(shared, network={"conditioning": "common_zerolinear"}))
    monkeypatch.setattr(protocols, "PROTOCOLS", dict(protocols.PROTOCOLS))

    @protocols.protocol("short")
    def short(query, target, value):
        return query.replace(conditioning=query.conditioning[:4])

    with pytest.raises(UserError, match=r"protocol 'short': query.conditioning has shape \(4,\), must be \(11,\)"):
        elicit.check(tiny.changed(CONFIG, elicit={"protocols": ("short",)}))


def test_guidance_without_training_for_it_is_a_warning(capsys):
    elicit.check(tiny.changed(CONFIG, elicit={"protocols": ("guidance",)}))
    assert "diffusion.p_uncond = 0" in capsys.readouterr().out
    elicit.check(tiny.changed(CONFIG, elicit={"protocols": ("guidance",)}, diffusion={"p_uncond": 0.1}))
    assert not capsys.readouterr().out


def test_the_summary_counts_seeds_and_gaps(finished):
    """Capability curves put in by hand: overprompting emerges first in both seeds, naive prompting in one."""
    ds = tiny.collected(finished, CONFIG)
    values = ds["capability_split"].values
    values[..., 3] = 0.0
    naive, pushed = 0, 1
    values[0, 2, naive, 3] = 1.0
    values[:, 1:, pushed, 3] = 0.8
    ds["naive_split"].values[..., 3] = 0.0
    ds["naive_split"].values[0, 2, pushed, 3] = 1.0  # the plain query, scored as overprompting is
    (level,) = capability.summarise(ds)
    block = level["classes"]["11"]
    assert block["naive"]["emergence"]["learned"] == 1 and block["overprompt"]["emergence"]["learned"] == 2
    assert block["overprompt"]["sooner_than_naive"] == 2 and block["latent"]["sooner_than_naive"] == 0
    assert block["overprompt"]["emergence"]["median"] == pytest.approx(5.0)
    gap = block["overprompt"]["gap_to_naive"]
    assert gap[0] == pytest.approx(5.8 - 5.0) and np.isnan(gap[1])
    text = report.to_json(level)
    assert text["classes"]["11"]["naive"]["emergence"]["per_seed"][1] is None

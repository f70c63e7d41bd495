"""A finished study that is extended: what was there stays to the byte, what is added is what a new study gives."""

import dataclasses
import html
import json
import os
import pathlib
import re
import shutil

import events
import numpy as np
import pytest
import tiny
from commands import assert_one_line, command, snapshot
from kills import Killed

import cspace_jax as cs
from cspace_jax.config import GridConfig, to_dict
from cspace_jax.engine.engine import Engine
from cspace_jax.pipeline import api, extension
from cspace_jax.storage import checkpoint

# Studies are trained. The filter is for how ml_collections loads config files.
pytestmark = [
    pytest.mark.system,
    pytest.mark.filterwarnings(r"ignore:the load_module\(\) method is deprecated:DeprecationWarning"),
]
CONFIG = tiny.study(
    network=tiny.NARROW, diffusion={"schedule": "fixed_linear"}, optim={"clip": 1.0}, evaluate={"losses": False}
)
SEEDS, LEVELS = (0, 9), (0.2, 0.5)
STEPS, SAVES = 9, (2, 5, 6, 8, 9)  # roots go on at their mean distance, 0.52


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def finished(root):
    return cs.run(CONFIG, root / "finished")


def copied(study, target):
    shutil.copytree(study.workdir.root, target)
    return cs.open_study(target)


@pytest.fixture(scope="module")
def wider(finished, root):
    """Of the product of both axes one run is there, (0, .2); what is missing are two products."""
    return copied(finished, root / "wider").extend(seeds=SEEDS, sep_col=LEVELS)


@pytest.fixture(scope="module")
def longer(wider, root):
    study = copied(wider, root / "longer")
    return api.run(extension.wanted(study.workdir.root, {}, STEPS), study.workdir.root, "extend", log="tensorboard")


def rows(study):
    return study.workdir.table.read_bytes().splitlines()


def numbers(lines):
    """Rows without the number of the run."""
    return sorted(line.partition(b",")[2] for line in lines)


def of_product(study, steps):
    """The rows of the runs of SEEDS x LEVELS, without the number of the run."""
    ds = study.dataset
    chosen = np.isin(ds["seed"], SEEDS) & np.isin(ds["sep_col"], LEVELS)
    runs = {str(run).encode() for run in ds["run"].values[chosen]}
    assert len(runs) == 4 and ds["step"].values.tolist() == list(steps)
    return numbers(line for line in rows(study)[1:] if line.partition(b",")[0] in runs)


def test_old_rows_stay_to_the_byte_and_new_runs_come_after_them(finished, wider):
    before, after = rows(finished), rows(wider)
    assert after[: len(before)] == before and len(after) - 1 == (len(before) - 1) * 7 // 4
    settings = {(int(s), float(c)) for s, c in zip(wider.dataset["seed"], wider.dataset["sep_col"], strict=True)}
    assert settings == {(s, c) for s in (0, 7) for c in (0.2, 0.8)} | {(s, c) for s in SEEDS for c in LEVELS}
    added = json.loads(wider.workdir.extensions.read_text())
    assert [(one["seeds"], one["sep_col"]) for one in added["grids"]] == [([9], [0.2]), ([0, 9], [0.5])]
    assert json.loads(wider.workdir.config.read_text()) == json.loads(finished.workdir.config.read_text())
    for folder in ("checkpoints", "eval", "probe"):
        old = snapshot(finished.workdir.root / folder)
        assert {name: data for name, (_, data) in snapshot(wider.workdir.root / folder).items()} == {
            name: data for name, (_, data) in old.items()
        }


def test_added_runs_and_steps_are_those_of_a_new_study(longer, wider, root):
    """Also the oracle of the wider study: its rows are those of the longer one at earlier steps."""
    grown = dataclasses.replace(CONFIG, grid=GridConfig(seeds=SEEDS, sep_col=LEVELS))
    new = cs.run(tiny.changed(grown, optim={"steps": STEPS}, save={"steps": SAVES}), root / "new")
    assert of_product(longer, SAVES) == numbers(rows(new)[1:])
    assert set(rows(wider)) <= set(rows(longer))
    of_wider = [line for line in of_product(wider, CONFIG.save.steps)]
    assert set(of_wider) <= set(numbers(rows(new)))


def test_the_log_of_an_extension_has_all_runs_and_steps_once(longer, tmp_path):
    events.assert_whole(longer.workdir.root)
    again = copied(longer, tmp_path / "w")
    api.run(None, again.workdir.root, "extend", log="tensorboard")
    events.assert_whole(again.workdir.root)


def test_runs_whose_record_is_gone_are_never_taken_for_others(wider, tmp_path):
    study = copied(wider, tmp_path / "w")
    study.workdir.extensions.unlink()
    before = snapshot(tmp_path / "w", ignored=("env.json", "times.json"))
    for again in (lambda: study.extend(seeds=(77,)), lambda: cs.run(CONFIG, tmp_path / "w")):
        with pytest.raises(cs.UserError, match="extensions.json' is gone, which says what the runs in"):
            again()
    assert snapshot(tmp_path / "w", ignored=("env.json", "times.json")) == before


def test_the_same_request_again_adds_nothing(longer, capsys):
    made_again = ("env.json", "times.json", "summary.json", "concept_space.nc", "concept_space.csv")
    before, table = snapshot(longer.workdir.root, made_again), rows(longer)
    longer.extend(seeds=SEEDS, sep_col=LEVELS, steps=STEPS)
    assert "extend: adds nothing new" in capsys.readouterr().out
    after = snapshot(longer.workdir.root, made_again)
    assert {name for name in after if after[name] != before.get(name)} <= {"config.json"} and rows(longer) == table
    assert after["config.json"][1] == before["config.json"][1]


def test_the_first_command_is_still_that_of_the_workdir(longer):
    before = rows(longer)
    study = cs.run(CONFIG, longer.workdir.root)
    assert rows(study) == before and study.config.optim.steps == STEPS
    with pytest.raises(cs.UserError, match="differing in grid.seeds; --mode=extend adds runs and steps to it"):
        cs.run(tiny.changed(CONFIG, grid={"seeds": (0, 7, 9)}), longer.workdir.root)


def test_a_killed_extension_goes_on_with_the_same_request(finished, longer, tmp_path, monkeypatch):
    """Killed in the steps that are added to the old runs, which begin at 6, then in the training of added ones."""
    study = copied(finished, tmp_path / "killed")
    for fatal in ((8, 9), (2, 3, 4, 5)):
        with monkeypatch.context() as patch, pytest.raises(Killed):

            def killed(self, state, step, count, advance=Engine.train, fatal=fatal):
                if step in fatal:
                    raise Killed
                return advance(self, state, step, count)

            patch.setattr(Engine, "train", killed)
            study.extend(seeds=SEEDS, sep_col=LEVELS, steps=STEPS)
    assert rows(study) == rows(finished) and (study.workdir.root / "extensions" / "000" / "checkpoints").exists()
    assert_what_is_shown_was_evaluated(study, tmp_path)
    with pytest.raises(cs.UserError, match="what was added is not trained to its end; --mode=extend --workdir="):
        api.run(None, study.workdir.root, "eval")
    assert api.run(None, study.workdir.root, "figures").dataset.sizes["run"] == 4
    assert rows(api.run(None, study.workdir.root, "extend")) == rows(longer)
    assert not study.workdir.aside.exists()


def assert_what_is_shown_was_evaluated(study, tmp_path):
    """Of an extension that is not finished, the page, a comparison and an export show what the results hold."""
    assert cs.open_study(study.workdir.root).config.optim.steps == STEPS
    text = cs.open_study(study.workdir.root).page().text
    shown = json.loads(html.unescape(re.search(r"<summary>configuration</summary><pre>(.*?)</pre>", text, re.S)[1]))
    assert shown == to_dict(CONFIG) and "data:image/webp" in text
    alone = shutil.copytree(study.workdir.root, tmp_path / "alone", ignore=shutil.ignore_patterns("extensions*"))
    assert cs.compare(study.workdir.root, alone).differences == []
    assert cs.open_study(study.workdir.root).export(tmp_path / "dataset") == cs.open_study(alone).export(
        tmp_path / "dataset_alone"
    )
    card = (tmp_path / "dataset" / "README.md").read_text()
    assert card == (tmp_path / "dataset_alone" / "README.md").read_text()


def test_an_extended_study_is_shown_with_the_grid_of_all_its_runs(finished, wider, root):
    whole = {"seeds": [0, 7, 9], "sep_col": [0.2, 0.8, 0.5]}
    text = wider.page().text
    shown = json.loads(html.unescape(re.search(r"<summary>configuration</summary><pre>(.*?)</pre>", text, re.S)[1]))
    stored = json.loads(wider.dataset.attrs["config"])
    joined = json.loads(cs.open_study([wider.workdir.root]).dataset.attrs["config"])
    for config in (shown, stored, joined):
        assert {name: config["grid"][name] for name in whole} == whole
    found = cs.compare(finished.workdir.root, wider.workdir.root).differences
    assert {one.field: one.second for one in found} == {f"grid.{name}": values for name, values in whole.items()}


def test_everything_reads_all_parts(longer, tmp_path):
    study = copied(longer, tmp_path / "w")
    assert [study.model(run).setting.seed for run in (0, 4, 6)] == [0, 9, 9]
    assert float(study.model(run=6, step=8).setting.sep_col) == np.float32(0.5)
    with pytest.raises(cs.UserError, match=r"run = 7: must be in \[0, 6\]"):
        study.model(run=7)
    before = rows(study)
    added = study.replay([4, 7]).added
    assert added["run"].values.tolist() == list(range(7)) and (added["exact"] == 1).all()
    assert added["seed"].values.tolist() == study.dataset["seed"].values.tolist()
    assert len(study.figure("curves").axes) > 1
    asked = study.elicit("overprompt", samples=2, overprompt=(1.0,)).dataset
    assert asked["capability"].sel(klass="11").notnull().all() and asked.sizes["run"] == 7
    plain = {line.rsplit(b",", 2)[0] for line in rows(study) if b",overprompt," not in line}
    assert plain == set(before)


def test_all_batteries_of_a_workdir_are_asked_of_what_is_added(finished, tmp_path):
    study = copied(finished, tmp_path / "w").elicit("overprompt", samples=2, overprompt=(1.0,))
    before = rows(study.elicit("latent", samples=2, alpha=(1.0,)))
    added = study.extend(seeds=(9,), steps=STEPS).dataset
    assert added["protocol"].values.tolist() == ["naive", "latent", "overprompt"]
    assert added["capability"].sel(klass="11").notnull().all() and added.sizes["run"] == 6
    assert set(before) <= set(rows(study))
    for file in study.workdir.elicit.glob("*/battery.json"):
        described = json.loads(file.read_text())
        file.write_text(
            json.dumps({name: value for name, value in described.items() if name not in ("elicit", "crc32")})
        )
    for asked in ({"steps": STEPS + 1}, {"seeds": (11,)}):
        with pytest.raises(cs.UserError, match="extend: the battery in .* cannot be asked of what is added, an older"):
            study.extend(**asked)
    for name, values in (("overprompt", {"overprompt": (1.0,)}), ("latent", {"alpha": (1.0,)})):
        study.elicit(name, samples=2, **values)  # once more, which measures nothing
    assert study.extend(seeds=(9,)).dataset.sizes["run"] == 6


def test_the_command_takes_the_values_that_are_there_for_the_other_axes(wider, tmp_path):
    folder = copied(wider, tmp_path / "w").workdir.root
    done = command("--mode=extend", f"--workdir={folder}", "--config.grid.sep_col=(0.5,)")
    assert done.code == 0, done.err
    assert "extend: adds 1 run\n" in done.out  # seeds 0 and 9 are there
    assert done.out.count("probe: held-out accuracy") == 1
    ds = cs.open_study(folder).dataset
    assert (int(ds["seed"][-1]), float(ds["sep_col"][-1])) == (7, 0.5)


REFUSED = {
    "network": ({"network.channels": (8,)}, r"network.channels = \[8\]: all runs of a workdir share it, here \[4\]"),
    "batch": ({"optim.batch_size": 2}, "optim.batch_size = 2: .*python -m cspace_jax.main --config=YOUR_FILE.py:smoke"),
    "fewer": ({"optim.steps": 8}, "optim.steps = 8: must be at least the 9 steps that are trained"),
    "saves": ({"save.steps": (2, 5)}, "save.steps = .2, 5.: all runs of a workdir share it"),
    "other saves": ({"optim.steps": 12, "save.steps": (2, 6, 12)}, "must begin with the 5 saved steps"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_added_is_one_line_and_changes_nothing(name, longer):
    fields, words = REFUSED[name]
    config = extension.grown(longer.workdir.root)
    groups: dict = {}
    for path, value in fields.items():
        group, _, field = path.partition(".")
        groups.setdefault(group, {})[field] = value
    before = snapshot(longer.workdir.root)
    with pytest.raises(cs.UserError, match=words) as caught:
        api.run(tiny.changed(config, **groups), longer.workdir.root, "extend")
    assert "\n" not in str(caught.value) and snapshot(longer.workdir.root) == before


def test_a_training_that_cannot_go_on_is_one_line(finished, tmp_path):
    study = copied(finished, tmp_path / "lost")
    checkpoint.remove(study.workdir.checkpoints / "wave_000" / "state", 6)
    with pytest.raises(cs.UserError, match="the last state .*state/6 was removed, there is nothing to go on from; in"):
        study.extend(steps=STEPS)
    made = json.loads(study.workdir.config.read_text())
    made["optim"]["decay"] = "cosine"
    study.workdir.config.write_text(json.dumps(made))
    with pytest.raises(cs.UserError, match=r"the learning rate falls to 0 over 6 steps \(optim.decay = cosine\)"):
        study.extend(steps=STEPS)
    battery = copied(finished, tmp_path / "patched")
    (battery.workdir.elicit / "0123").mkdir(parents=True)
    description = battery.workdir.elicit / "0123" / "battery.json"
    for name in ("patch", "patch_random", "latent+patch"):
        description.write_text(json.dumps({"protocols": ["naive", name], "values": ["", ""], "samples": 2}))
        with pytest.raises(cs.UserError, match="use the last save"):
            battery.extend(steps=STEPS)
    description.unlink()
    description.mkdir()
    with pytest.raises(cs.UserError, match="battery.json is damaged; remove"):
        battery.extend(steps=STEPS)
    for folder in (study.workdir.checkpoints, study.workdir.eval):
        shutil.rmtree(folder)
    with pytest.raises(cs.UserError, match="wave_000 was trained, but its states to go on from are gone: --mode=train"):
        study.extend(seeds=(9,))
    assert not study.workdir.extensions.exists() and not battery.workdir.extensions.exists()


def test_a_damaged_last_state_is_told_before_anything_is_written(finished, tmp_path):
    study = copied(finished, tmp_path / "w")
    states = study.workdir.checkpoints / "wave_000" / "state"
    flip_a_bit(states / "6")
    assert not checkpoint.is_intact(states, 6)
    before = snapshot(study.workdir.root)
    with pytest.raises(cs.UserError, match="optim.steps = 9: the last state .*state/6 is damaged, there is nothing to"):
        study.extend(steps=STEPS)
    assert snapshot(study.workdir.root) == before
    folder, asked = study.workdir, extension.wanted(study.workdir.root, {}, STEPS)
    assert extension.request(folder, CONFIG, extension.wanted(folder.root, {"seeds": (9,)}))[1].grids  # needs no state
    with checkpoint.CheckpointWriter(states) as writer:
        writer.save(5, {"a": np.zeros(4)})  # an earlier one counts; what it holds is looked at in training
    assert extension.request(folder, CONFIG, asked)[1].steps == STEPS


def flip_a_bit(folder):
    file = max(filter(pathlib.Path.is_file, pathlib.Path(folder).rglob("*")), key=os.path.getsize)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 64
    file.write_bytes(content)


def test_mistakes_of_the_command_are_one_line(finished, tmp_path):
    line = ("--mode=extend", f"--workdir={finished.workdir.root}")
    assert_one_line(command(*line, "--config.grid.sep_col=(0.9,)"), "grid.sep_col[0] = 0.9: must be in (0, 0.8]")
    assert_one_line(command("--mode=extend", f"--workdir={tmp_path / 'none'}", "--config.grid.seeds=(1,)"), "no such")
    with pytest.raises(cs.UserError, match="sep_colour = .*must be an axis of the grid"):
        finished.extend(sep_colour=(0.2,))
    (tmp_path / "w").mkdir()
    shutil.copy(finished.workdir.config, tmp_path / "w")
    with pytest.raises(cs.UserError, match="no usable trained probe"):
        cs.open_study(tmp_path / "w").extend(seeds=(9,))
    damaged = copied(finished, tmp_path / "damaged")
    damaged.workdir.extensions.write_text('{"grids": 3}')
    with pytest.raises(cs.UserError, match="extensions.json' is damaged"):
        cs.open_study(damaged.workdir.root)

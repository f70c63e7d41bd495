"""A plan that is chosen by measurement: its candidates, what is kept and asked again, and the command line."""

import dataclasses
import json
import unittest.mock

import commands
import jax
import pytest
import tiny

from cspace_jax.config.plan import Plan
from cspace_jax.cost import autotune
from cspace_jax.cost.autotune import Timing
from cspace_jax.engine.engine import Engine
from cspace_jax.errors import UserError

AUTO = tiny.study(network=tiny.NARROW, engine={"plan": "auto", "steps_per_call": 0})
FAST = Timing({"convolution": "canonical", "runs": "loop", "devices": 1, "steps_per_call": 1}, 2.0, 20.0)
SLOW = Timing({"convolution": "matmul", "runs": "loop", "devices": 1, "steps_per_call": 1}, 3.0, 10.0)
FAILED = Timing({"convolution": "canonical", "runs": "vmap", "devices": 0, "steps_per_call": 50}, note="out of memory")


pytestmark = [
    pytest.mark.system,
    pytest.mark.filterwarnings(r"ignore:the load_module\(\) method is deprecated:DeprecationWarning"),
]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def pretend(**about):
    """An engine that was never compiled."""
    return unittest.mock.Mock(spec=Engine, **about)


@pytest.fixture
def measured(monkeypatch):
    """Stand in for the clock: canonical is twice as fast. Which candidates were measured."""
    seen = []

    def start(config, plan, settings):
        plan = Plan.resolve(config, "cpu")
        seen.append((plan.convolution, plan.runs, plan.devices))
        like = FAST if plan.convolution == "canonical" else SLOW
        chosen = like.chosen | {"runs": plan.runs, "devices": plan.devices}
        return dataclasses.replace(like, chosen=chosen, rate=0.0), pretend(rate=like.rate)

    monkeypatch.setattr(autotune, "start", start)
    monkeypatch.setattr(autotune, "speed", lambda runner, seconds: runner.rate)
    return seen


def fields(plan):
    return plan.convolution, plan.runs, plan.steps_per_call


def test_known_plan_is_left_alone(measured):
    config = tiny.study()
    assert autotune.resolve(config, may_measure=True) == Plan.resolve(config, "cpu") and not measured


def test_fastest_is_taken_and_kept_for_the_next_start(measured, capsys):
    chosen = autotune.resolve(AUTO, may_measure=True)
    assert fields(chosen) == ("canonical", "loop", 1)
    assert {convolution for convolution, _, _ in measured} == {"canonical", "winograd"}
    assert "<- chosen" in capsys.readouterr().out
    count = len(measured)
    assert autotune.resolve(AUTO, may_measure=False) == chosen
    other_seeds = tiny.changed(AUTO, grid={"seeds": (3, 4)})
    assert fields(autotune.resolve(other_seeds, may_measure=True)) == fields(chosen)
    assert len(measured) == count


def test_another_processor_is_measured_anew(monkeypatch):
    before = autotune.key(AUTO)
    monkeypatch.setattr(autotune.machine, "processor", lambda: "another x 64")
    assert autotune.key(AUTO) != before


@pytest.mark.parametrize(
    "changes",
    [
        {"network": {"channels": (8, 8)}},
        {"optim": {"batch_size": 2}},
        {"grid": {"seeds": (1, 2, 3)}},
        {"engine": {"wave": 1}},
        {"engine": {"microbatch": 2}},
        {"data": {"image_size": 16}},
    ],
)
def test_another_program_or_number_of_runs_is_measured_anew(measured, changes):
    assert autotune.key(tiny.changed(AUTO, **changes)) != autotune.key(AUTO)
    autotune.resolve(AUTO, may_measure=True)
    other, before = tiny.changed(AUTO, **changes), len(measured)
    plan = autotune.resolve(other, may_measure=False)  # nothing known, and no time to find out
    assert plan == Plan.resolve(other, "cpu") and len(measured) == before


def test_fields_that_are_given_are_not_tried_otherwise(measured):
    autotune.resolve(
        tiny.changed(AUTO, engine={"runs": "unroll", "convolution": "canonical", "devices": 1}), may_measure=True
    )
    assert measured == [("canonical", "unroll", 1)]


def test_accelerators_stack_runs(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    tried = {(c.engine.runs, c.engine.convolution) for c in autotune.candidates(AUTO)}
    assert {("vmap", "xla"), ("vmap", "matmul"), ("map", "matmul")} <= tried
    many = tiny.changed(AUTO, grid={"seeds": tuple(range(50))})
    assert "unroll" not in {c.engine.runs for c in autotune.candidates(many)}


def test_damaged_cache_is_measured_again(measured):
    autotune.cache_file().parent.mkdir(parents=True)
    for content in ("{", "[]", json.dumps({autotune.key(AUTO): {"speed": 3}})):
        autotune.cache_file().write_text(content)
        before = len(measured)
        assert fields(autotune.resolve(AUTO, may_measure=True))[0] == "canonical" and len(measured) > before


@pytest.mark.parametrize("when", ["compiled", "timed"])
def test_candidates_that_fail_are_told_and_passed_over(monkeypatch, capsys, when):
    def fail(config):
        if config.engine.convolution == "canonical":
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: no memory\nmore")

    def start(config, plan, settings):
        fail(config if when == "compiled" else AUTO)
        return SLOW, pretend(config=config)

    def speed(runner, seconds):
        fail(runner.config)
        return 10.0

    monkeypatch.setattr(autotune, "start", start)
    monkeypatch.setattr(autotune, "speed", speed)
    assert fields(autotune.resolve(AUTO, may_measure=True))[0] == "matmul"
    assert "RESOURCE_EXHAUSTED: no memory\n" in capsys.readouterr().out
    with pytest.raises(UserError, match="no plan can be carried out"):
        autotune.best([FAILED])


def test_an_error_without_words_is_told_by_its_name():
    assert autotune._first_line(NotImplementedError()) == "NotImplementedError"
    assert autotune._first_line(ValueError(" one\ntwo")) == "one"


def test_nothing_is_kept_where_nothing_fits(measured):
    small = tiny.changed(AUTO, engine={"memory_gb": 1e-6})
    with pytest.raises(UserError, match="no plan can be carried out here .*predicted to need"):
        autotune.resolve(small, may_measure=True)
    assert not measured and not autotune.cache_file().exists()


def test_measuring_is_of_the_real_program():
    config = autotune.candidates(AUTO)[0]
    (timing,) = autotune.measure([config], tiny.settings(config), seconds=0.0)
    assert timing.rate > 0 and timing.compile_seconds > 0
    assert timing.chosen == {
        "convolution": "winograd",
        "runs": "loop",
        "devices": config.engine.devices,
        "steps_per_call": 25,
    }


def test_plans_are_timed_in_turns_and_medians_compared(monkeypatch):
    """One slow turn, or one fast one, decides nothing."""
    rates = {"canonical": iter((10.0, 1.0, 12.0)), "winograd": iter((90.0, 2.0, 3.0))}
    engines, turns = {name: pretend(label=name) for name in rates}, []

    def speed(runner, seconds):
        turns.append(runner.label)
        return next(rates[runner.label])

    monkeypatch.setattr(autotune, "start", lambda config, plan, settings: (FAST, engines[config.engine.convolution]))
    monkeypatch.setattr(autotune, "speed", speed)
    configs = [autotune.with_plan(AUTO, {"convolution": name}) for name in rates]
    assert [timing.rate for timing in autotune.measure(configs, None)] == [10.0, 3.0]
    assert turns == ["canonical", "winograd"] * autotune.TURNS


def test_a_choice_among_other_candidates_is_not_remembered(measured, monkeypatch):
    autotune.resolve(AUTO, may_measure=True)
    before = len(measured)
    fewer = autotune.candidates(AUTO)[1:]
    monkeypatch.setattr(autotune, "candidates", lambda config: fewer)
    autotune.resolve(AUTO, may_measure=True)
    assert len(measured) == before + len(fewer)


@pytest.mark.parametrize(("batch_part", "devices"), [(1, {1, 2}), (4, {1})])  # of a batch of four
def test_all_devices_are_tried_where_they_can_share_a_run(monkeypatch, batch_part, devices):
    monkeypatch.setattr(jax, "local_device_count", lambda: 2)
    one = tiny.changed(AUTO, grid={"seeds": (0,), "sep_col": (0.5,)}, engine={"microbatch": batch_part})
    assert {candidate.engine.devices for candidate in autotune.candidates(one)} == devices


def test_many_processes_measure_nothing(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(UserError, match="engine.plan = 'auto': must be 'known'"):
        autotune.resolve(AUTO, may_measure=True)


def test_command_measures_once_and_says_what_it_took(tmp_path, measured):
    line = (
        commands.study(),
        f"--workdir={tmp_path / 'w'}",
        "--mode=train",
        "--config.engine.plan=auto",
        *commands.NARROW,
    )
    first = commands.command(*line)
    assert first.code == 0 and "<- chosen" in first.out and "1 device(s)" in first.out, (first.out, first.err)
    assert json.loads((tmp_path / "w" / "config.json").read_text())["engine"]["plan"] == "auto"
    second = commands.command(*line)
    assert second.code == 0 and "<- chosen" not in second.out and "1 device(s)" in second.out


def test_more_devices_than_there_are_is_one_line(tmp_path):
    done = commands.command(commands.study(), f"--workdir={tmp_path / 'w'}", "--config.engine.devices=9")
    commands.assert_one_line(done, "engine.devices = 9: must be at most")
    assert not (tmp_path / "w").exists()

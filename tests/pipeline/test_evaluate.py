"""How many images an accelerator evaluates at once, and what happens where its memory does not suffice."""

import types

import jax
import numpy as np
import pytest
import tiny
from etils import epath

from cspace_jax.config.plan import PLAIN, Plan
from cspace_jax.engine.engine import Engine
from cspace_jax.errors import UserError
from cspace_jax.evaluation import sampling
from cspace_jax.evaluation.probe import ProbeSpec
from cspace_jax.evaluation.spec import EvalSpec
from cspace_jax.pipeline import evaluate
from cspace_jax.storage.workdir import Workdir
from cspace_jax.training.run import TrainSpec

CONFIG = tiny.study(network=tiny.NARROW, grid={"sep_col": (0.2,)}, evaluate={"samples_per_class": 4})
EXHAUSTED = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes"


def engine(runs, places, size):
    data = types.SimpleNamespace(image_size=size)
    spec = types.SimpleNamespace(source=types.SimpleNamespace(data=data))
    return types.SimpleNamespace(runs=runs, places=list(range(places)), spec=spec)


def test_an_accelerator_samples_a_bounded_number_of_pixels_at_once(monkeypatch):
    assert evaluate.images_at_once(engine(100, 2, 32)) == 0  # the cache of a CPU decides
    monkeypatch.setattr(evaluate.jax, "default_backend", lambda: "gpu")
    assert evaluate.images_at_once(engine(100, 2, 32)) == 4096 // 50
    assert evaluate.images_at_once(engine(100, 2, 64)) == 1024 // 50
    assert evaluate.images_at_once(engine(100, 2, 16)) == 4096 // 50  # no more images of fewer pixels
    assert evaluate.images_at_once(engine(10_000, 1, 32)) == evaluate.images_at_once(engine(1, 1, 1024 * 8)) == 1


def test_a_single_query_of_the_battery_is_sampled_in_parts():
    """Otherwise the least would be one query: its held-out classes, times the samples, times the runs."""
    config = tiny.changed(CONFIG, elicit={"protocols": ("overprompt",), "samples": 12})
    probe = ProbeSpec.from_config(config)
    spec = EvalSpec.of_battery(config, TrainSpec.from_config(config, PLAIN), probe, images_per_call=5)
    assert spec.shape == (1, 1, 12) and spec.microbatch_of(12) == spec.part_of(12) == 4
    on_cpu = TrainSpec.from_config(config, Plan.resolve(config, "cpu"))
    assert EvalSpec.of_battery(config, on_cpu, probe, images_per_call=5).at_once == 0


class Short:
    """Replaces the sampler where a device's memory holds `most` images of a run, and notes what was tried."""

    def __init__(self, most):
        self.most, self.tried, self.draw = most, [], sampling.draw

    def call(self, runner, function, static, *arguments, **options):
        if function is self.draw:
            self.tried.append(static.microbatch_of(16))
            if self.tried[-1] > self.most:
                raise jax.errors.JaxRuntimeError(EXHAUSTED)
        return self.original(runner, function, static, *arguments, **options)


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """An evaluation, parameters to measure, and a device whose memory is short."""
    study = tiny.in_workdir(Workdir(epath.Path(tmp_path)), CONFIG)
    runner = study.engine(study.waves[0])
    evaluation = evaluate.Evaluation(study, runner, tiny.probe_of(CONFIG))
    short = Short(100)
    short.original = Engine.call
    monkeypatch.setattr(Engine, "call", lambda *arguments, **options: short.call(*arguments, **options))
    return evaluation, [state.evaluated for state in runner.init()], short


@pytest.mark.network
def test_where_memory_does_not_suffice_half_as_many_images_are_sampled_at_once(measured, capsys):
    evaluation, params, short = measured
    whole = evaluation(params)
    assert short.tried == [16]
    short.most, short.tried = 4, []
    parts = evaluation(params)
    assert short.tried == [16, 8, 4]
    assert "out of memory: 4 images of a run at once are tried to evaluate 2 runs at once" in capsys.readouterr().out
    for name, values in whole.items():
        close = {"atol": 1} if name == "samples" else {"rtol": 1e-4, "atol": 1e-4}  # of 255; a rounding may flip
        np.testing.assert_allclose(parts[name].astype(float), values.astype(float), **close, err_msg=name)
    evaluation(params)
    assert short.tried == [16, 8, 4, 4]  # it is not tried again with more


def test_where_no_image_fits_one_line_names_the_fields_to_lower(measured):
    evaluation, params, short = measured
    short.most = 0
    with pytest.raises(UserError, match=r"2 runs at once, one image of each: .* engine.wave or evaluate.samples_per"):
        evaluation(params)
    assert short.tried == [16, 8, 4, 2, 1]


def test_another_error_of_the_device_is_not_hidden(measured, monkeypatch):
    evaluation, params, _ = measured

    def fail(*arguments, **options):
        raise jax.errors.JaxRuntimeError("INTERNAL: broken")

    monkeypatch.setattr(Engine, "call", fail)
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        evaluation(params)

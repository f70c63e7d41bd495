"""The probe: its network against the reference implementation, its data, when training stops, and its cache."""

import dataclasses
import io
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import tiny as tiny_module
from etils import epath

from cspace_jax.config import Config, DataConfig, EngineConfig, GridConfig
from cspace_jax.config.plan import Plan
from cspace_jax.data.renderer import Renderer
from cspace_jax.errors import UserError
from cspace_jax.evaluation import probe as probe_network
from cspace_jax.model import unet
from cspace_jax.model.convolution import METHODS
from cspace_jax.pipeline import probe, probe_cache, probe_levels
from cspace_jax.storage.workdir import Workdir

pytestmark = pytest.mark.network

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden" / "probe_small.npz"
PAPER = Config(study="test", scale="paper")
SMALL = dataclasses.replace(
    tiny.PROBE,
    channels=(4,),
    steps=4,
    images_per_class=4,
    data=((0.8, 0.4, 0.2, False), (0.2, 0.2, 0.2, True)),
)
TINY = Config(study="test", scale="smoke", data=DataConfig(image_size=4, blur=0.0), probe=SMALL)


def with_probe(config, **fields):
    return dataclasses.replace(config, probe=dataclasses.replace(config.probe, **fields))


def task_of(config):
    spec = probe_network.ProbeSpec.from_config(config, Plan(convolution="matmul"))
    return probe._Task(spec, config.probe, Renderer(config.data))


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def state_file(golden, tmp_path_factory):
    file = tmp_path_factory.mktemp("weights") / "probe.npz"
    np.savez(file, **{name.removeprefix("param/"): a for name, a in golden.items() if name.startswith("param/")})
    return str(file)


@pytest.mark.parametrize("method", METHODS)
def test_logits_and_loss_of_the_reference(golden, state_file, method):
    spec = probe_network.ProbeSpec.from_config(PAPER, Plan(convolution=method))
    params = probe_network.from_torch(spec, state_file)
    images = jnp.asarray(np.moveaxis(golden["x"], 1, -1))
    bits = jnp.asarray(golden["label"][:, None] // np.array([2, 1]) % 2)
    ours = jax.jit(probe_network.logits, static_argnums=0)(spec, params, images)
    np.testing.assert_allclose(ours.reshape(4, 4), golden["logits"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(probe_network.cross_entropy(ours, bits).mean(), golden["loss"], rtol=1e-4)


def test_weights_of_a_probe_without_dropout_are_the_same(state_file, tmp_path):
    spec = probe_network.ProbeSpec.from_config(with_probe(PAPER, dropout=0.0))
    with np.load(state_file) as state:
        renamed = {name.replace(".net2.3.", ".net2.2."): array for name, array in state.items()}
    np.savez(tmp_path / "probe.npz", **renamed)
    found = probe_network.from_torch(spec, str(tmp_path / "probe.npz"))
    jax.tree.map(np.testing.assert_array_equal, found, probe_network.from_torch(spec, state_file))


def test_parameter_count_of_the_reference(golden):
    spec = probe_network.ProbeSpec.from_config(PAPER)
    ours = jax.eval_shape(lambda: probe_network.init_params(spec, jax.random.key(0)))
    # The reference owns one down and one up convolution, 2x2 kernels, 32 to 32 channels and bias, that it never calls.
    unused = 2 * (2 * 2 * 32 * 32 + 32)
    theirs = sum(array.size for name, array in golden.items() if name.startswith("param/"))
    assert theirs == 226_692
    assert unet.count_params(ours) == theirs - unused == 218_436
    assert unet.count_params(ours["head"]) == 4_676


def test_weights_of_another_probe_are_refused(state_file):
    spec = probe_network.ProbeSpec.from_config(with_probe(PAPER, out_channels=32))
    with pytest.raises(UserError, match=r"probe\.npz.*does not fit the probe: .* has the shape .*64"):
        probe_network.from_torch(spec, state_file)


@pytest.fixture(scope="module")
def tiny():
    spec = probe_network.ProbeSpec.from_config(TINY, Plan(convolution="matmul"))
    return spec, jax.jit(probe_network.init_params, static_argnums=0)(spec, jax.random.key(0), 0.02)


def test_only_the_backbone_is_scaled(tiny):
    spec, params = tiny
    assert np.abs(params["backbone"]["conv_in"]["kernel"]).max() <= 0.02 / np.sqrt(27)
    np.testing.assert_allclose(params["backbone"]["norm_out"]["scale"], 0.02, rtol=1e-6)
    np.testing.assert_array_equal(params["head"]["norm_0"]["scale"], 1.0)
    kernel = np.abs(params["head"]["dense_1"]["kernel"])
    assert 0.25 < kernel.max() <= 1 / np.sqrt(spec.unet.out_channels)


def test_probabilities_and_loss_from_logits(tiny, monkeypatch):
    spec, params = tiny
    pairs = np.array([[[0.0, 1.0], [2.0, -1.0]], [[0.5, 0.5], [-3.0, 4.0]]], np.float32)
    monkeypatch.setattr("cspace_jax.evaluation.probe.logits", lambda *_: jnp.asarray(pairs))
    bits, images = np.array([[1, 1], [0, 1]]), jnp.zeros((2, 4, 4, 3))
    p = 1 / (1 + np.exp(pairs[..., 0] - pairs[..., 1]))
    np.testing.assert_allclose(probe_network.probabilities(spec, params, images), p, rtol=1e-6)
    oracle = -np.log(np.where(bits == 1, p, 1 - p)).sum(1).mean()
    np.testing.assert_allclose(probe_network.loss(spec, params, images, jnp.asarray(bits)), oracle, rtol=1e-5)


def test_data_holds_every_class_and_row_alike():
    task = task_of(TINY)
    sizes = dataclasses.replace(task.probe, images_per_class=16, test_images_per_class=2)
    pool, test = (task.source.probe_items(sizes, jax.random.key(0), held=held) for held in (False, True))
    assert np.bincount(pool.klass).tolist() == [32] * 4
    assert np.unique(test.cv.size.round(4)).tolist() == pytest.approx([0.25, 0.35, 0.55, 0.65])
    wide, narrow = np.array_split(np.abs(pool.cv.size - 0.45), 2)  # distance from the border between the classes
    assert wide.min() >= 0.05 and wide.max() <= 0.35
    assert narrow.min() >= 0.075 and narrow.max() <= 0.125
    small = np.asarray(pool.cv.size < 0.45, int)
    np.testing.assert_array_equal(probe._bits(task, pool)[:, 1], small)


def test_epochs_repeat_no_image():
    task = task_of(with_probe(TINY, steps=9))
    batches = np.asarray(probe._draw_batches(task, 34, jax.random.key(0)))  # four batches of 8, two images wait
    assert batches.shape == (9, 8)
    first, second = batches[:4].ravel(), batches[4:8].ravel()
    assert len(set(first)) == len(set(second)) == 32
    assert (first != second).any()


def fake_checks(joint, every=50):
    return [probe._Check(every * (i + 1), {"joint": j}, 1.0, {}) for i, j in enumerate(joint)]


def test_training_stops_after_three_perfect_checks_and_a_fifth_of_the_steps():
    assert probe._settled(fake_checks([0.5, 1.0, 1.0, 1.0]), 1000)
    assert not probe._settled(fake_checks([1.0, 1.0]), 100)
    assert not probe._settled(fake_checks([1.0, 1.0, 0.99, 1.0]), 1000)
    assert not probe._settled(fake_checks([1.0, 1.0, 1.0]), 1000)


def test_best_check_has_the_most_images_right_then_the_lowest_loss():
    checks = [probe._Check(i, {"joint": j}, v, {}) for i, (j, v) in enumerate([(1, 0.2), (1, 0.1), (0.9, 0.0)])]
    checks.insert(0, probe._Check(9, {"joint": 1}, float("nan"), {}))
    assert max(checks, key=lambda check: check.rank).step == 1


def test_training_is_reproducible_and_one_call_may_hold_several_steps():
    looped = dataclasses.replace(TINY, engine=EngineConfig(steps_per_call=2))
    first, again = (probe.train_probe(TINY, Plan.resolve(TINY, "cpu")) for _ in range(2))
    in_pairs = probe.train_probe(TINY, Plan.resolve(looped, "cpu"))
    params, info = first.params, first.info
    assert info["steps"] == info["best_step"] == 4
    assert set(info["accuracy"]) == {"color", "size", "joint"}
    assert json.loads(json.dumps(info)) == info
    jax.tree.map(np.testing.assert_array_equal, params, again.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), params, in_pairs.params)


def test_hash_follows_what_a_probe_depends_on():
    own = probe.config_hash(TINY)
    for same in (
        with_probe(TINY, cache_dir="elsewhere", min_accuracy=0.5),
        dataclasses.replace(TINY, grid=GridConfig(sep_col=(0.5,)), engine=EngineConfig(steps_per_call=7)),
        dataclasses.replace(TINY, data=dataclasses.replace(TINY.data, images_per_class=5)),
    ):
        assert probe.config_hash(same) == own
    for other in (
        with_probe(TINY, steps=5),
        with_probe(TINY, data=((0.8, 0.4, 0.2, True),)),
        dataclasses.replace(TINY, data=dataclasses.replace(TINY.data, blur=0.5)),
        dataclasses.replace(TINY, data=dataclasses.replace(TINY.data, active=("shape", "color"))),
    ):
        assert probe.config_hash(other) != own


@pytest.fixture
def workdir(tmp_path):
    return Workdir(epath.Path(tmp_path))


@pytest.fixture
def trainings(tiny, monkeypatch):
    """Replace the training, and list the configurations that were asked for."""
    calls = []

    def train(config, plan):
        calls.append(config)
        info = {"accuracy": {"color": 1.0, "size": 0.75, "joint": 0.75}, "loss": 0.1, "steps": 4, "best_step": 4}
        return probe.Probe(tiny[0], tiny[1], {**info, "hash": probe.config_hash(config)})

    monkeypatch.setattr(probe_cache.training, "train_probe", train)
    return calls


def test_second_call_reads_the_cache(workdir, trainings, tiny, capsys):
    first = probe_cache.load_or_train(tiny_module.in_workdir(workdir, TINY))
    second = probe_cache.load_or_train(tiny_module.in_workdir(workdir, TINY), train=False)
    assert len(trainings) == 1
    assert second.spec == probe_network.ProbeSpec.from_config(TINY, Plan.resolve(TINY, "cpu"))
    jax.tree.map(np.testing.assert_array_equal, first.params, second.params)
    assert first.info == second.info and first.accuracy == {"color": 1.0, "size": 0.75, "joint": 0.75}
    line = "probe: held-out accuracy color 1.0000, size 0.7500, joint 0.7500 (4 steps, {})\n"
    assert capsys.readouterr().out == line.format("trained") + line.format("cached")
    assert sorted(p.suffix for p in workdir.probe.iterdir()) == [".json", ".npz"]


def test_a_probe_that_has_read_checkpoints_and_is_gone_is_trained_again_only_if_asked(workdir, trainings, capsys):
    evaluation = workdir.eval / "wave_000" / "step_00000002.npz"
    evaluation.parent.mkdir(parents=True)
    evaluation.write_bytes(b"")
    study = tiny_module.in_workdir(workdir, TINY)
    for needed in (True, False):  # there are no results that keep what is needed of it
        with pytest.raises(UserError, match="has read checkpoints of this workdir, is gone: --mode=train trains it"):
            probe_cache.load_or_train(study, needed=needed)
    assert not trainings
    probe_cache.load_or_train(study, again=True)
    assert "is gone: it is trained again" in capsys.readouterr().out and len(trainings) == 1
    probe_cache.load_or_train(study)
    assert "is gone" not in capsys.readouterr().out and len(trainings) == 1


def test_workdirs_share_a_cache_folder(workdir, trainings, tmp_path):
    config = with_probe(TINY, cache_dir=str(tmp_path / "shared"))
    probe_cache.load_or_train(tiny_module.in_workdir(workdir, config))
    probe_cache.load_or_train(tiny_module.in_workdir(Workdir(workdir.root / "other"), config))
    assert len(trainings) == 1
    assert not workdir.probe.exists()


def cut(content):
    return content[: len(content) // 2]


def of_another_probe(content):
    """Arrays of the same shapes."""
    buffer = io.BytesIO()
    np.savez(buffer, **{name: array + 1 for name, array in np.load(io.BytesIO(content)).items()})
    return buffer.getvalue()


DAMAGES = (
    (".npz", of_another_probe),
    (".npz", cut),
    (".npz", lambda _: b""),
    (".npz", lambda content: content.replace(b"conv_in", b"conv_on")),
    (".json", cut),
    (".json", lambda _: b"[1]"),
    (".json", lambda _: b"\xff"),
    (".json", lambda content: content.replace(b'"size"', b'"shape"')),
)


@pytest.mark.parametrize(("suffix", "damage"), DAMAGES)
def test_damaged_cache_is_trained_again(workdir, trainings, capsys, suffix, damage):
    probe_cache.load_or_train(tiny_module.in_workdir(workdir, TINY))
    file = probe_cache.cache_path(TINY, workdir).with_suffix(suffix)
    file.write_bytes(damage(file.read_bytes()))
    capsys.readouterr()
    probe_cache.load_or_train(tiny_module.in_workdir(workdir, TINY))
    notice, result = capsys.readouterr().out.splitlines()
    assert "is damaged and not used" in notice
    assert "trained" in result
    assert len(trainings) == 2
    probe_cache.load_or_train(tiny_module.in_workdir(workdir, TINY), train=False)


def test_missing_probe_is_named_when_it_may_not_be_trained(workdir, trainings):
    with pytest.raises(UserError, match=str(probe_cache.cache_path(TINY, workdir))):
        probe_cache.load_or_train(tiny_module.in_workdir(workdir, TINY), train=False)
    assert not trainings


def test_unreadable_cache_is_an_error(workdir, trainings):
    probe_cache.cache_path(TINY, workdir).mkdir(parents=True)
    with pytest.raises(UserError, match="cannot read the trained probe"):
        probe_cache.load_or_train(tiny_module.in_workdir(workdir, TINY))
    assert not trainings


def test_unwritable_cache_is_reported_before_training(workdir, trainings):
    workdir.root.joinpath("a_file").write_text("")
    config = with_probe(TINY, cache_dir=str(workdir.root / "a_file"))
    with pytest.raises(UserError, match="a_file"):
        probe_cache.load_or_train(tiny_module.in_workdir(workdir, config))
    assert not trainings


def test_too_low_an_accuracy_is_refused_but_kept(workdir, trainings):
    strict = with_probe(TINY, min_accuracy=0.9)
    for _ in range(2):
        with pytest.raises(UserError, match=r"min_accuracy = 0.9: .* size .* 0.7500 only; raise probe.steps \(now 4\)"):
            probe_cache.load_or_train(tiny_module.in_workdir(workdir, strict))
    probe_cache.load_or_train(tiny_module.in_workdir(workdir, TINY))
    assert len(trainings) == 1


def test_a_probe_that_misreads_a_level_of_the_study_is_refused_and_its_reading_is_kept(tmp_path, capsys):
    """An untrained probe reads every level by chance: the line names a level, and the numbers stay in the workdir."""
    config = tiny_module.changed(TINY, probe={"min_accuracy": 0.9}, grid={"sep_col": (0.2, 0.8)})
    study = tiny_module.in_workdir(Workdir(epath.Path(tmp_path)), config)
    untrained = dataclasses.replace(tiny_module.probe_of(config), info={"accuracy": {}, "hash": "none"})
    with pytest.raises(UserError, match=r"probe.min_accuracy = 0.9: at sep_col=0.[28], .* the probe reads"):
        probe_levels.check(study, untrained)
    (file,) = (tmp_path / "probe").glob("levels_*.json")
    found = json.loads(file.read_text())
    assert [level["setting"]["sep_col"] for level in found] == pytest.approx([0.2, 0.8])
    assert all(0 <= level[kind][name] < 0.9 for level in found for kind in ("means", "ranges") for name in ("color",))
    assert "reads the 2 levels" in capsys.readouterr().out
    with pytest.raises(UserError), pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe_levels, "_measure", lambda *_: pytest.fail("measured again"))
        probe_levels.check(study, untrained)
    probe_levels.check(tiny_module.in_workdir(study.workdir, TINY), untrained)  # a limit of 0 refuses nothing

"""Where runs and what they share lie: on how many devices, and that it changes nothing."""

import dataclasses
import os
import pathlib
import subprocess
import sys

import jax
import pytest
from grids import REFERENCE

from cspace_jax.engine.placement import local_devices
from cspace_jax.errors import UserError

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEVICES = """
import jax
jax.config.update("jax_num_cpu_devices", 8)
import numpy as np, regression, tempfile, grids as t, tiny
from cspace_jax.engine.placement import Shared
from cspace_jax.storage import checkpoint
eight = jax.devices()
one, two = eight[:2]

def outcome(layout, devices, runs=3, **changes):
    runner = regression.engine(layout, slice(0, runs), devices, **changes)
    return runner, t.trained(runner, runner.init())

alone = outcome("loop", [one])[1]
for devices in ([two], [one, two]):
    tiny.assert_same_bits(outcome("loop", devices)[1], alone)
groups = regression.engine("loop", devices=[one, two]).init()
assert [next(iter(group.params["w"].devices())) for group in groups] == [one, two, one]
runner, result = outcome("vmap", [one, two])
assert [len(settings.seed) for settings in runner.settings] == [2, 1] and runner.runs == 3
t.assert_same_training(result, alone)

def shared(layout, devices):
    runner, (state, metrics) = outcome(layout, devices, runs=1, microbatch=2)
    assert runner.spec.shards == len(devices) == len(runner.settings[0].seed.devices())
    tiny.assert_same_bits(runner.fetch(runner.scatter(state)), state)
    (held,), _ = runner.train(runner.init(), 0, 3)
    copies = [jax.tree.map(lambda leaf: leaf.addressable_shards[i].data, held) for i in range(len(devices))]
    tiny.assert_same_bits(copies[-1], copies[0])
    return state, metrics

for layout in ("loop", "vmap"):
    t.assert_same_training(shared(layout, [one, two]), shared(layout, [one]))

def held(device):
    shards = [shard for array in jax.live_arrays() for shard in array.addressable_shards]
    return sum(shard.data.nbytes for shard in shards if shard.device == device)

def copies(device, kind):
    # Of each array once, whatever larger one it is part of.
    shards = [shard for array in jax.live_arrays() if array.dtype == kind for shard in array.addressable_shards]
    return len({shard.data.unsafe_buffer_pointer() for shard in shards if shard.device == device})

# The probe asks for one device, runs that are shared for several: each has one copy, whoever asks first.
pool = {"pictures": np.zeros(6 * 2**20 + 1, np.uint8)[1:].reshape(2**20, 6)}  # not aligned: it has to be copied
pair = jax.NamedSharding(jax.sharding.Mesh(np.array([one, two]), ("batch",)), jax.P())
single = [jax.sharding.SingleDeviceSharding(device) for device in (one, two)]
for places in ([single[0], pair, single[1]], [pair, *single]):
    shared_by_all = Shared(pool)
    found = [shared_by_all.at(place)["pictures"] for place in places]
    assert [len(array.devices()) for array in found] == [len(place.device_set) for place in places]
    assert all((array == pool["pictures"]).all() for array in found)
    assert [copies(device, np.uint8) for device in (one, two, eight[2])] == [1, 1, 0]
    del found, shared_by_all

with tempfile.TemporaryDirectory() as folder:
    spread = regression.engine("vmap", slice(0, 8), eight)
    before = [held(device) for device in eight]
    state, _ = spread.train(spread.init(), 0, 3)
    saved = spread.fetch(state)
    grown = [held(device) - base for device, base in zip(eight, before)]
    # A save leaves every run on its own device; the first one holds the step's number too.
    assert 0 < max(grown) < 1.05 * min(grown), grown
    for devices in (eight, [one]):
        with checkpoint.CheckpointWriter(folder) as writer:
            writer.save(len(devices), regression.engine("vmap", slice(0, 8), devices).fetch(state))
    for step, devices in ((8, [one]), (1, eight), (8, [eight[7], two])):
        other = regression.engine("vmap", slice(0, 8), devices)
        restored = checkpoint.restore_groups(folder, step, other.abstract_state(), other.groups)
        tiny.assert_same_bits(other.fetch(restored), saved)
        for group, device in zip(restored, devices, strict=True):
            assert all(leaf.devices() == {device} for leaf in jax.tree.leaves(group))
print("equal")
"""


def test_number_of_devices_changes_nothing_and_sharing_a_run_only_rounding():
    folders = [ROOT, ROOT / "tests" / "support"]
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(map(str, folders))}
    done = subprocess.run([sys.executable, "-c", DEVICES], env=env, capture_output=True, text=True, timeout=1200)
    assert done.stdout == "equal\n", done.stderr


def test_a_plan_can_take_fewer_devices(monkeypatch):
    monkeypatch.setattr(jax, "local_devices", lambda: ["a", "b"])
    taken = {n: local_devices(dataclasses.replace(REFERENCE, devices=n)) for n in (0, 1, 2)}
    assert taken == {0: ["a", "b"], 1: ["a"], 2: ["a", "b"]}
    with pytest.raises(UserError, match="engine.devices = 3: must be at most 2"):
        local_devices(dataclasses.replace(REFERENCE, devices=3))

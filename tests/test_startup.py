"""What is set before JAX starts: settings that decide numbers are ours, or known by name."""

import json
import os
import pathlib

import jax
import jax.numpy as jnp
import pytest
from commands import UNOPTIMISED
from jax._src import compiler

from cspace_jax import startup
from cspace_jax.errors import UserError
from cspace_jax.storage import workdir

OTHER = {
    "jax_enable_x64": True,
    "jax_default_prng_impl": "rbg",
    "jax_threefry_partitionable": False,
    "jax_random_seed_offset": 7,
    "jax_high_dynamic_range_gumbel": True,
    "jax_softmax_custom_jvp": True,
    "jax_numpy_dtype_promotion": "strict",
    "jax_numpy_rank_promotion": "raise",
    "jax_debug_nans": True,
    "jax_debug_infs": True,
    "jax_disable_jit": True,
    "jax_debug_key_reuse": True,
    "jax_check_tracer_leaks": True,
    "jax_no_execution": True,
    "jax_no_tracing": True,
    "jax_transfer_guard_host_to_device": "disallow",
    "jax_transfer_guard_device_to_host": "disallow",
    "jax_transfer_guard_device_to_device": "disallow",
    "jax_transfer_guard": "disallow",
}


@pytest.fixture
def _restored():
    before = {name: startup._setting(name) for name in OTHER}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def draw():
    key = jax.random.key(3)
    return jax.random.key_data(key), jax.random.normal(key, (7,)), jax.random.gumbel(key, (5,))


@pytest.mark.usefixtures("_restored")
def test_settings_that_change_every_number_are_put_at_their_defaults_and_said(capsys):
    assert OTHER.keys() == startup.FIXED.keys()
    assert {name: startup._setting(name) for name in OTHER} == startup.FIXED  # the defaults of this version of JAX
    expected = draw()
    for name, value in OTHER.items():
        jax.config.update(name, value)
    startup.fix_numerics()
    said = capsys.readouterr().out.splitlines()
    directions = 3  # of transfers, which the guard of all puts back with itself
    assert len(said) == len(OTHER) - directions
    assert said[0].startswith("cspace_jax: jax_enable_x64 = True is set to False")
    of_transfers = [line for line in said if "jax_transfer_guard" in line]
    assert len(of_transfers) == 1 and of_transfers[0].endswith("its default, without which a study may fail")
    assert [line for line in said if "numbers" in line] == said[: len(startup._OF_NUMBERS)]
    for ours, theirs in zip(draw(), expected, strict=True):
        assert ours.dtype == theirs.dtype and jnp.array_equal(ours, theirs)
    startup.fix_numerics()
    assert capsys.readouterr().out == ""


def test_a_cache_keeps_what_was_used_last(tmp_path):
    for age, name in enumerate("abcd"):
        (tmp_path / name).write_bytes(bytes(10))
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    (tmp_path / "folder").mkdir()
    startup.bound(tmp_path, 25)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["a", "b"]
    startup.bound(tmp_path, 1e9)
    assert (tmp_path / "b").exists()


def test_a_setting_that_a_context_holds_is_refused():
    with jax.enable_x64(True), pytest.raises(UserError, match="jax_enable_x64 = True: must be False"):
        startup.fix_numerics()


def test_settings_that_change_numbers_are_known_by_name_and_others_are_not(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=/x --xla_cpu_enable_fast_math --xla_allow_excess_precision=false")
    monkeypatch.setenv("LIBTPU_INIT_ARGS", "--xla_tpu_bf16_emission_mode=2 --xla_tpu_scoped_vmem_limit_kib=9")
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    expected = {
        "NVIDIA_TF32_OVERRIDE": "0",
        "xla_cpu_enable_fast_math": "true",
        "xla_allow_excess_precision": "false",
        "xla_tpu_bf16_emission_mode": "2",
    }
    assert startup.numerics() == expected
    with jax.default_matmul_precision("highest"):
        assert startup.numerics() == {"jax_default_matmul_precision": "highest", **expected}


def test_a_workdir_is_not_resumed_under_other_settings(tmp_path, monkeypatch):
    folder = workdir.Workdir(workdir._root(tmp_path))
    workdir.require_same_numerics(folder)  # no command yet
    folder.env.write_text('{"xla_flags": ""}')
    workdir.require_same_numerics(folder)  # of a version that recorded none
    folder.env.write_text('{"numerics": {}}')
    workdir.require_same_numerics(folder)
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    with pytest.raises(UserError, match="xla_cpu_enable_fast_math was not set, is true"):
        workdir.require_same_numerics(folder)


def test_a_workdir_of_a_version_that_knew_fewer_flags_goes_on_under_the_same(tmp_path, monkeypatch):
    folder = workdir.Workdir(workdir._root(tmp_path / "w"))
    folder.root.mkdir()
    (tmp_path / "flags").write_text("--xla_gpu_ftz=true")
    hurried = "--xla_backend_optimization_level=0"
    for flags in ("--xla_gpu_ftz=true --xla_dump_to=/x", str(tmp_path / "flags")):
        for recorded in (flags, f"{flags} {hurried}"):
            folder.env.write_text(json.dumps({"xla_flags": recorded, "numerics": {}}))
            monkeypatch.setenv("XLA_FLAGS", flags)
            workdir.require_same_numerics(folder)
            monkeypatch.setenv("XLA_FLAGS", "")
            with pytest.raises(UserError, match="xla_gpu_ftz was true, is not set"):
                workdir.require_same_numerics(folder)
    # The present version knows them: what it has not recorded was not set, whatever the file holds now.
    folder.env.write_text(json.dumps({"xla_flags": str(tmp_path / "flags"), "numerics": {}, "variables": {}}))
    workdir.require_same_numerics(folder)


def test_without_a_home_folder_caches_are_elsewhere_or_nowhere(tmp_path, monkeypatch):
    def nobody():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(pathlib.Path, "home", nobody)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert startup.cache_folder() == tmp_path / f"cspace_jax_{os.getuid()}"
    assert startup.usable_cache("xla").is_dir()
    (tmp_path / f"cspace_jax_{os.getuid()}").chmod(0o777)  # others could put programs of theirs there
    assert startup.usable_cache("xla") is None
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert startup.usable_cache("xla") is None


def optimisation():
    options = compiler.get_compile_options(1, 1).executable_build_options.debug_options
    return options.xla_backend_optimization_level, options.xla_llvm_disable_expensive_passes


@pytest.mark.parametrize("before", [True, False])
def test_smoke_scale_alone_is_compiled_without_optimisation_whoever_asks(before, monkeypatch, capsys):
    monkeypatch.setenv("XLA_FLAGS", "")
    name = startup._UNOPTIMISED
    usual = jax.config.values[name]
    try:
        jax.config.update(name, before)
        with startup.compiling("smoke"):
            assert optimisation() == (0, True) and startup.xla_flags() == UNOPTIMISED
        with startup.compiling("quick"):
            assert not jax.config.values[name] and startup.xla_flags() == ""
        assert jax.config.values[name] == before
        line = f"cspace_jax: {name} = True is set to False for this study: only smoke scale is compiled so\n"
        assert capsys.readouterr().out == (line if before else "")
    finally:
        jax.config.update(name, usual)


def test_a_flag_of_the_user_is_told_once(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_dump_to=/x")
    with startup.compiling("smoke"):
        given, more = "--xla_backend_optimization_level=0 --xla_dump_to=/x", "--xla_llvm_disable_expensive_passes=true"
        assert startup.xla_flags() == f"{given} {more}"


def test_flags_in_a_file_are_known_too(tmp_path, monkeypatch):
    (tmp_path / "flags").write_text("--xla_dump_to=/x\n--xla_gpu_ftz=true\n")
    monkeypatch.setenv("XLA_FLAGS", str(tmp_path / "flags"))
    assert startup.numerics() == {"xla_gpu_ftz": "true"}
    monkeypatch.setenv("XLA_FLAGS", str(tmp_path / "none"))
    assert startup.numerics() == {}

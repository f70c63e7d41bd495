"""Settings that must be made before JAX starts.

They concern memory allocation, CPU devices, numbers and the cache of compiled programs.
"""

import contextlib
import enum
import os
import pathlib
import re
import stat
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from cspace_jax import machine
from cspace_jax.errors import UserError
from cspace_jax.text import one_line

# XLA:CPU asks malloc for its buffers at every call. With glibc's defaults large ones are given back to the kernel each
# time, and a good part of a training step is spent on faulting them in again.
_TUNABLES = {
    "glibc.malloc.hugetlb": "1",
    "glibc.malloc.mmap_threshold": str(1 << 34),
    "glibc.malloc.trim_threshold": str(1 << 34),
}
MAX_CPU_DEVICES = 2  # each device compiles its own copy of a program
MAX_CACHE_BYTES = 4 * 2**30  # of compiled programs; the oldest are removed
# Settings of JAX that are always as they are by default. These change every number:
_OF_NUMBERS = {
    "jax_enable_x64": False,
    "jax_default_prng_impl": "threefry2x32",
    "jax_threefry_partitionable": True,
    "jax_random_seed_offset": 0,
    "jax_high_dynamic_range_gumbel": False,
    "jax_softmax_custom_jvp": False,
    "jax_numpy_dtype_promotion": "standard",
}
# Under these programs cannot be traced, or a run that diverges, or a transfer between host and device, ends the study:
_NEEDED = {
    "jax_numpy_rank_promotion": "allow",
    "jax_debug_nans": False,
    "jax_debug_infs": False,
    "jax_disable_jit": False,
    "jax_debug_key_reuse": False,
    "jax_check_tracer_leaks": False,
    "jax_no_execution": False,
    "jax_no_tracing": False,
    "jax_transfer_guard": None,  # of all directions; one alone may be set too
    "jax_transfer_guard_host_to_device": None,
    "jax_transfer_guard_device_to_host": None,
    "jax_transfer_guard_device_to_device": None,
}
FIXED = {**_OF_NUMBERS, **_NEEDED}
# Those that change numbers by more than rounding, and that a user may have reasons for: recorded with their values
# where these are not the defaults given here, see `numerics`. So are variables of the environment, and flags of XLA.
_RECORDED = {"jax_default_matmul_precision": None, "jax_allow_f16_reductions": True}
_RECORDED_VARIABLES = ("NVIDIA_TF32_OVERRIDE",)
_VARIABLES_OF_FLAGS = ("XLA_FLAGS", "LIBTPU_INIT_ARGS")
_RECORDED_FLAGS = re.compile(r"fast_math|fast_min_max|precision|tf32|bf16|f16|fp8|f8|_ftz|unsafe|approx")
# How the names of variables begin that JAX and XLA read.
_READ_BY_JAX = (
    "JAX_", "XLA_", "LIBTPU_", "TPU_", "TF_XLA", "TF_CUDNN", "TF_DETERMINISTIC", "NVIDIA_TF32", "CUDA_", "NCCL_",
)  # fmt: skip
# The setting of JAX under which programs are compiled without optimisation, and the flags of XLA that it stands for.
_UNOPTIMISED = "jax_disable_most_optimizations"
_UNOPTIMISED_FLAGS = ("--xla_backend_optimization_level=0", "--xla_llvm_disable_expensive_passes=true")
_FORCED = "xla_force_host_platform_device_count"
_INVALID = re.compile(r"^[Ii]nvalid .*\b(?:for environment|for JAX flag) '?(\w+)")  # of JAX as it is imported
_UNABLE = re.compile(r"^Unable to initialize backend '\w+': ")
_RESTARTED = "CSPACE_JAX_RESTARTED"
_set_up = False


def restart_with_allocator_settings() -> None:
    """Start this command again with a glibc that keeps its memory, on Linux and only once.

    The function returns if there is nothing to do. Set GLIBC_TUNABLES, or CSPACE_JAX_RESTARTED=1, to keep the allocator
    as it is.
    """
    if not sys.platform.startswith("linux") or os.environ.get("GLIBC_TUNABLES") or os.environ.get(_RESTARTED):
        return
    settings = ":".join(f"{name}={value}" for name, value in _TUNABLES.items())
    environment = {**os.environ, "GLIBC_TUNABLES": settings, _RESTARTED: "1"}
    os.execve(sys.executable, sys.orig_argv, environment)


def restarted() -> bool:
    """Return whether this process was started again by `restart_with_allocator_settings`."""
    return bool(os.environ.get(_RESTARTED)) and bool(os.environ.get("GLIBC_TUNABLES"))


def set_up_jax(hurried: bool = False) -> None:
    """Choose the number of CPU devices and the folder of compiled programs.

    It should run before JAX's backend starts. A second start on the same machine takes compiled programs from the
    cache. What JAX was told before, by JAX_NUM_CPU_DEVICES, XLA_FLAGS, JAX_COMPILATION_CACHE_DIR or `jax.config`,
    stays. Where JAX's backend already runs on a CPU with one device, a line says what would be faster. A second call
    only puts the settings of `FIXED` back.

    Args:
      hurried: for studies that take less time than the compilation of their programs: these are then compiled once,
        for one CPU device, and without optimisation (`compiling`; 126 s of CPU time become 58 s at smoke scale).

    Raises:
      UserError: a setting of `FIXED` is held at another value.
    """
    fix_numerics()
    global _set_up
    if _set_up:
        return
    _set_up = True
    if machine.has_quota():
        os.environ.setdefault("NPROC", str(machine.cores()))  # XLA's threads; it knows the affinity alone
    import jax

    if hurried:
        jax.config.update(_UNOPTIMISED, True)
    # Two runs at a time: parts of a small network's step do not use a second core.
    wanted = 1 if hurried else min(MAX_CPU_DEVICES, machine.cores())
    asked = _FORCED in os.environ.get("XLA_FLAGS", "")  # the user's own number
    if not asked and jax.config.jax_num_cpu_devices < 1:  # pyright: ignore[reportAttributeAccessIssue]
        try:
            jax.config.update("jax_num_cpu_devices", wanted)
        except RuntimeError:  # the backend runs
            if jax.default_backend() == "cpu" and jax.local_device_count() < wanted:
                print(f"cspace_jax: JAX already runs with one CPU device; cs.set_up() before it starts gives {wanted}")
    folder = usable_cache("xla")
    if jax.config.jax_compilation_cache_dir is None and folder:  # pyright: ignore[reportAttributeAccessIssue]
        bound(folder, MAX_CACHE_BYTES)
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)


def start_backend() -> str:
    """Start JAX's backend, unless it runs already, and return its name: "cpu", "gpu" or "tpu".

    Raises:
      UserError: it cannot be started, for example as JAX_PLATFORMS names one that is not there.
    """
    import jax

    try:
        return jax.default_backend()
    except Exception as error:  # RuntimeError with JAX's reason; for CUDA without its plug-in an empty AssertionError
        raise UserError(_unable(error)) from error


def backend_failure(error: BaseException) -> str:
    """Return in one line why JAX or its backend could not be started. An error of another kind gives ""."""
    text = one_line(error)
    if isinstance(error, ValueError) and (found := _INVALID.match(text)):
        return f"{found[1].upper()} in the environment: JAX cannot read its value ({text[:200]}); unset it"
    return _unable(error) if _UNABLE.match(text) else ""


def _unable(error: BaseException) -> str:
    """Return in one line why the backend that JAX was asked for cannot be started."""
    import jax

    asked = jax.config.jax_platforms  # pyright: ignore[reportAttributeAccessIssue]
    reason = _UNABLE.sub("", one_line(error)).partition(" (set JAX_PLATFORMS")[0]
    reason = reason.partition(" (you may need to")[0][:200] or "is a jax for it installed?"
    name = f"JAX_PLATFORMS = {asked!r}" if asked else "JAX"
    return f"{name}: the backend cannot be started ({reason}); JAX_PLATFORMS=cpu takes the CPU"


def fix_numerics() -> None:
    """Set the settings of `FIXED` to their values, and print a line for each that had another.

    Raises:
      UserError: one is held at another value, as in the body of `with jax.enable_x64():`.
    """
    import jax

    for name, value in FIXED.items():
        found = _setting(name)
        if found == value:
            continue
        jax.config.update(name, value)
        if _setting(name) != value:
            raise UserError(f"{name} = {found}: must be {value} for a study; leave the context that sets it")
        why = "which the numbers of a study are made with" if name in _OF_NUMBERS else "without which a study may fail"
        print(f"cspace_jax: {name} = {found} is set to {value}, its default, {why}")


@contextlib.contextmanager
def compiling(scale: str) -> Iterator[None]:
    """Compile the programs of the body without optimisation at smoke scale, and with it at all others.

    So the command and `run` give the same numbers. The exception is a process that compiled the same programs before
    under the other setting: JAX takes those as they are. The setting is put back at the end.
    """
    import jax

    hurried, before = scale == "smoke", _is_hurried()
    if before and not hurried:
        print(f"cspace_jax: {_UNOPTIMISED} = True is set to False for this study: only smoke scale is compiled so")
    jax.config.update(_UNOPTIMISED, hurried)
    try:
        yield
    finally:
        jax.config.update(_UNOPTIMISED, before)


def _is_hurried() -> bool:
    """Return whether programs are compiled without optimisation."""
    import jax

    return bool(jax.config.values[_UNOPTIMISED])


def xla_flags() -> str:
    """Return the flags of XLA that programs are compiled with, the user's and those of `compiling`."""
    given = os.environ.get("XLA_FLAGS", "")
    more = [flag for flag in _UNOPTIMISED_FLAGS if _is_hurried() and flag not in given]
    return " ".join([given, *more]).strip()


def numerics() -> dict[str, str]:
    """Return the settings that change numbers by more than rounding and are not at their default.

    The result maps names to texts. The settings of `FIXED` are left out.
    """
    free = {name: str(_setting(name)) for name, default in _RECORDED.items() if _setting(name) != default}
    variables = {name: os.environ[name] for name in _RECORDED_VARIABLES if os.environ.get(name)}
    return free | variables | recorded_flags(*(os.environ.get(name, "") for name in _VARIABLES_OF_FLAGS))


def recorded_flags(*texts: str) -> dict[str, str]:
    """Return the flags of XLA that change numbers by more than rounding, name -> value.

    `texts` are the contents of environment variables, or the result of `xla_flags`. A flag without a value gives
    "true". The flags of `compiling` are left out.
    """
    ours = re.compile("|".join(map(re.escape, _UNOPTIMISED_FLAGS)))
    named = (flag.lstrip("-").partition("=") for text in texts for flag in _flags_of(ours.sub("", text)))
    return {name: value or "true" for name, _, value in named if _RECORDED_FLAGS.search(name)}


def _flags_of(text: str) -> list[str]:
    """Return the flags that a variable holds.

    XLA reads a text that begins without "-" as the path of a file of flags.
    """
    if text.strip() and not text.lstrip().startswith("-"):
        with contextlib.suppress(OSError, ValueError):
            return pathlib.Path(text.strip()).read_text().split()
    return text.split()


def variables() -> dict[str, str]:
    """Return the environment variables that JAX and XLA read, name -> value, whatever they do."""
    return {name: value for name, value in sorted(os.environ.items()) if name.startswith(_READ_BY_JAX)}


def _setting(name: str) -> Any:
    """Return the value of a setting of JAX."""
    import jax

    value = getattr(jax.config, name)
    return value.value if isinstance(value, enum.Enum) else value


def cache_folder() -> pathlib.Path:
    """Return this user's folder for files that can be made again: compiled programs, measured plans, pictures.

    It need not exist. It lies below XDG_CACHE_HOME or ~/.cache. Without a home folder, as for a user without an entry
    in a container, it lies below the folder of temporary files and is named by the user's number.
    """
    home = os.environ.get("XDG_CACHE_HOME")
    if home:
        return pathlib.Path(home) / "cspace_jax"
    try:
        return pathlib.Path.home() / ".cache" / "cspace_jax"
    except RuntimeError:
        return pathlib.Path(tempfile.gettempdir()) / f"cspace_jax_{os.getuid()}"


def bound(folder: pathlib.Path, most: float) -> None:
    """Remove the files of a cache that were used longest ago until at most `most` bytes stay.

    The disk's times of use decide, as far as it keeps them. Errors of the disk are passed over.
    """
    found = []
    with contextlib.suppress(OSError):  # whatever the disk says: it is but a cache
        for path in folder.rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile by another process
                status = path.stat()
                if stat.S_ISREG(status.st_mode) and not path.name.startswith("."):  # those are being written
                    found.append((max(status.st_atime, status.st_mtime), status.st_size, path))
    kept = 0.0
    for _, size, path in sorted(found, reverse=True):
        kept += size
        if kept > most:
            with contextlib.suppress(OSError):
                path.unlink()


def usable_cache(name: str) -> pathlib.Path | None:
    """Return the folder `name` of `cache_folder`, made if it is missing. None is returned where nothing can be written.

    Below the folder of temporary files others could make it first, with programs of theirs in it. There it must belong
    to this user, and nobody else may write it.
    """
    base = cache_folder()
    try:
        if base.parent == pathlib.Path(tempfile.gettempdir()):
            base.mkdir(mode=0o700, exist_ok=True)
            found = base.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
                return None
        folder = base / name
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None

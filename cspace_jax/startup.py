"""What has to be set before JAX starts: memory allocation, CPU devices and the compilation cache."""

import os
import pathlib
import sys

# XLA:CPU asks malloc for its buffers at every call. With glibc's defaults large ones are given back to the kernel each
# time, and a good part of a training step is spent on faulting them in again.
_TUNABLES = {
    "glibc.malloc.hugetlb": "1",
    "glibc.malloc.mmap_threshold": str(1 << 34),
    "glibc.malloc.trim_threshold": str(1 << 34),
}
MAX_CPU_DEVICES = 2  # each device compiles its own copy of a program
_RESTARTED = "CSPACE_JAX_RESTARTED"
_set_up = False


def restart_with_allocator_settings() -> None:
    """Start this command again with glibc keeping its memory (Linux only, once); returns if there is nothing to do.

    Set GLIBC_TUNABLES, or CSPACE_JAX_RESTARTED=1, to keep the allocator as it is.
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
    """Choose the number of CPU devices and a folder for compiled programs; should run before JAX's backend starts.

    A second start on the same machine takes compiled programs from the cache. What JAX was told before, by
    JAX_NUM_CPU_DEVICES, JAX_COMPILATION_CACHE_DIR or `jax.config`, stays. Where JAX's backend already runs on a CPU
    with one device, a line says what would be faster. Calling it again changes nothing.

    Args:
      hurried: for studies that take less time than the compilation of their programs: these are then compiled once,
        for one CPU device, and without optimisation (126 s of CPU time become 58 s at smoke scale).
    """
    global _set_up
    if _set_up:
        return
    _set_up = True
    if hurried:
        os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
    import jax

    # Two runs at a time: parts of a small network's step do not use a second core.
    wanted = 1 if hurried else min(MAX_CPU_DEVICES, os.cpu_count() or 1)
    if jax.config.jax_num_cpu_devices < 1:  # pyright: ignore[reportAttributeAccessIssue]
        try:
            jax.config.update("jax_num_cpu_devices", wanted)
        except RuntimeError:  # the backend runs
            if jax.default_backend() == "cpu" and jax.local_device_count() < wanted:
                print(f"cspace_jax: JAX already runs with one CPU device; cs.set_up() before it starts gives {wanted}")
    if jax.config.jax_compilation_cache_dir is None:  # pyright: ignore[reportAttributeAccessIssue]
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)


def cache_folder() -> pathlib.Path:
    """Return the folder of this user for what may be made again: compiled programs, measured plans."""
    home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(home) / "cspace_jax"

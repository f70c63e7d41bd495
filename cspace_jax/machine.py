"""The cores and the memory that this process may use.

A container, a job or a shell may limit both.

Sources: affinity; cgroup v2 and v1 (their quota and limit of memory, of the process's own group and of those above it);
SLURM's memory of a job; `ulimit -v`. All functions read below `root`, which tests replace.
"""

import contextlib
import math
import os
import pathlib
import platform
import re
from collections.abc import Iterator, Mapping

_ROOT = pathlib.Path("/")
_UNLIMITED = 2.0**60  # bytes; cgroup v1 writes a number near 2^63 where there is no limit
_MB = 2.0**20


def cores(root: pathlib.Path = _ROOT) -> int:
    """Return how many cores this process may keep busy, at least 1."""
    return max(1, min([_schedulable(), *map(math.ceil, _quotas(root))]))


def has_quota(root: pathlib.Path = _ROOT) -> bool:
    """Return whether fewer cores may be kept busy than threads can be scheduled on."""
    return cores(root) < _schedulable()


def memory(root: pathlib.Path = _ROOT, environment: Mapping[str, str] = os.environ) -> float:
    """Return the bytes of memory that new work in this process can have.

    The result is infinity where nothing tells.
    """
    sizes = [*_limits(root), *_of_job(root, environment), *_of_shell(), *_available(root)]
    if not sizes and hasattr(os, "sysconf"):
        sizes = [float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))]
    return min(sizes, default=float("inf"))


def processor(root: pathlib.Path = _ROOT) -> str:
    """Return the processor's model and the number of cores that this process may keep busy, as "MODEL x CORES"."""
    found = re.search(r"^model name\s*:\s*(.*)$", text_of(root / "proc/cpuinfo"), re.MULTILINE)
    return f"{found[1] if found else platform.processor() or platform.machine()} x {cores(root)}"


def _schedulable() -> int:
    """Return the number of cores that threads of this process can be scheduled on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quotas(root: pathlib.Path) -> Iterator[float]:
    """Yield the cores that each control group above this process allows."""
    for folder in _groups(root, ""):
        quota, _, period = text_of(folder / "cpu.max").strip().partition(" ")
        if quota.isdecimal() and period.isdecimal():
            yield int(quota) / int(period)
    for folder in _groups(root, "cpu"):
        quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
        if quota > 0 and period > 0:  # -1: no limit
            yield quota / period


def _limits(root: pathlib.Path) -> Iterator[float]:
    """Yield the bytes of memory that this process's control group and each above it have left for new work.

    Used memory counts, except for caches that the kernel gives up when somebody needs the memory.
    """
    kinds = (
        ("", "memory.max", "memory.current", "(?:inactive_file|active_file|slab_reclaimable)"),
        ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_(?:inactive|active)_file"),
    )
    for controller, limits, usage, cached in kinds:
        for folder in _groups(root, controller):
            if 0 < (limit := _number(folder / limits)) < _UNLIMITED:
                found = re.findall(rf"^{cached} (\d+)$", text_of(folder / "memory.stat"), re.MULTILINE)
                used = _number(folder / usage) - sum(map(int, found))
                yield max(limit - max(used, 0.0), 0.0)


def _groups(root: pathlib.Path, controller: str) -> Iterator[pathlib.Path]:
    """Yield the folder of this process's control group, then those above it.

    `controller` names a hierarchy of cgroup version 1; "" is the one hierarchy of version 2. In a container the path
    that the kernel names may lie outside of what is mounted. Only the mount itself then has files to read.
    """
    mount = root / "sys/fs/cgroup" / controller
    for line in text_of(root / "proc/self/cgroup").splitlines():
        _, controllers, path = (line.split(":", 2) + ["", ""])[:3]
        if controller in controllers.split(","):
            own = mount / path.strip("/")
            yield from (folder for folder in (own, *own.parents) if folder.is_relative_to(mount) and folder != mount)
    yield mount


def _of_job(root: pathlib.Path, environment: Mapping[str, str]) -> Iterator[float]:
    """Yield the bytes of memory that SLURM gave the job; it names MB per node or per core."""
    for name, times in (("SLURM_MEM_PER_NODE", 1), ("SLURM_MEM_PER_CPU", cores(root))):
        text = environment.get(name, "")
        if text.isdecimal() and int(text):  # 0: all of the machine
            yield int(text) * _MB * times


def _of_shell() -> Iterator[float]:
    """Yield the bytes of address space that `ulimit -v` allows."""
    with contextlib.suppress(ImportError):  # not on Windows
        import resource

        soft, _ = resource.getrlimit(resource.RLIMIT_AS)
        if soft != resource.RLIM_INFINITY:
            yield float(soft)


def _available(root: pathlib.Path) -> Iterator[float]:
    """Yield the bytes of memory that the kernel reports as available."""
    found = re.search(r"^MemAvailable:\s*(\d+) kB", text_of(root / "proc/meminfo"), re.MULTILINE)
    if found:
        yield 1024.0 * int(found[1])


def _number(path: pathlib.Path) -> float:
    """Return the number in a file. No file, and words such as "max", give 0."""
    try:
        return float(text_of(path))
    except ValueError:
        return 0.0


def text_of(path: pathlib.Path) -> str:
    """Return the text of a file, such as those of /proc. A file that is missing or cannot be read gives ""."""
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""

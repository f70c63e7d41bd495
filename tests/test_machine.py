"""Limits of containers, jobs and shells, read from trees of files as the kernel shows them."""

import os
import pathlib
import resource
import subprocess
import sys

import pytest

from cspace_jax import machine

GB = 2.0**30
MEMINFO = "MemTotal: 33554432 kB\nMemFree: 1000 kB\nMemAvailable:   16777216 kB\n"  # 16 GiB
CPUINFO = "processor\t: 0\nmodel name\t: Some CPU @ 3.00GHz\n\nprocessor\t: 1\nmodel name\t: Some CPU @ 3.00GHz\n"


@pytest.fixture(autouse=True)
def sixteen_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@pytest.fixture
def tree(tmp_path):
    def make(**files):
        for name, text in {"proc/meminfo": MEMINFO, "proc/cpuinfo": CPUINFO, **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return make


def test_without_limits_it_is_what_the_kernel_has_free_and_schedules_on(tree):
    root = tree(
        **{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n", "sys/fs/cgroup/cpu.max": "max 100000"}
    )
    assert machine.memory(root, {}) == 16 * GB and machine.cores(root) == 16 and not machine.has_quota(root)
    assert machine.processor(root) == "Some CPU @ 3.00GHz x 16"


@pytest.mark.parametrize(
    ("files", "gigabytes", "cores"),
    [
        # A container sees its own group as the mount itself.
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "4294967296\n",
          "sys/fs/cgroup/cpu.max": "250000 100000\n"}, 4, 3),
        # A job's group below others: the tightest of all holds.
        ({"proc/self/cgroup": "0::/slurm/job_1/step\n", "sys/fs/cgroup/slurm/job_1/step/memory.max": "max\n",
          "sys/fs/cgroup/slurm/job_1/memory.max": "2147483648\n", "sys/fs/cgroup/slurm/memory.max": "8589934592\n",
          "sys/fs/cgroup/slurm/job_1/cpu.max": "50000 100000\n"}, 2, 1),
        # A path of the host that the container does not see.
        ({"proc/self/cgroup": "0::/../../elsewhere\n", "sys/fs/cgroup/memory.max": "1073741824\n"}, 1, 16),
        # Version 1, and "no limit" beside it as that version writes it.
        ({"proc/self/cgroup": "9:memory:/docker/a\n3:cpu,cpuacct:/docker/a\n",
          "sys/fs/cgroup/memory/docker/a/memory.limit_in_bytes": "3221225472\n",
          "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
          "sys/fs/cgroup/cpu/docker/a/cpu.cfs_quota_us": "400000\n",
          "sys/fs/cgroup/cpu/docker/a/cpu.cfs_period_us": "100000\n",
          "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, 3, 4),
        # What is used counts, but for files that the kernel can let go of.
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "8589934592\n",
          "sys/fs/cgroup/memory.current": "6442450944\n",
          "sys/fs/cgroup/memory.stat": "anon 5\ninactive_file 536870912\nactive_file 536870912\n"}, 3, 16),
        ({"proc/self/cgroup": "9:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "4294967296\n",
          "sys/fs/cgroup/memory/memory.usage_in_bytes": "3221225472\n"}, 1, 16),
        ({"proc/self/cgroup": "garbage\n", "sys/fs/cgroup/memory.max": "a few\n", "sys/fs/cgroup/cpu.max": ""}, 16, 16),
    ],
)  # fmt: skip
def test_the_tightest_control_group_holds(files, gigabytes, cores, tree):
    root = tree(**files)
    assert machine.memory(root, {}) == gigabytes * GB
    assert machine.cores(root) == cores and machine.has_quota(root) == (cores < 16)


@pytest.mark.parametrize(
    ("environment", "gigabytes"),
    [
        ({"SLURM_MEM_PER_NODE": "8192"}, 8),
        ({"SLURM_MEM_PER_CPU": "512"}, 8),
        ({"SLURM_MEM_PER_NODE": "0"}, 16),  # all of the node
        ({"SLURM_MEM_PER_NODE": "lots"}, 16),
    ],
)
def test_a_jobs_memory_counts(environment, gigabytes, tree):
    assert machine.memory(tree(), environment) == gigabytes * GB


def test_a_shells_limit_of_addresses_counts(tree, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (3 * 2**30, resource.RLIM_INFINITY))
    assert machine.memory(tree(), {}) == 3 * GB


def test_where_nothing_tells_it_is_the_physical_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}.__getitem__)
    assert machine.memory(tmp_path, {}) == 4096000.0
    monkeypatch.delattr(os, "sysconf")
    assert machine.memory(tmp_path, {}) == float("inf")


CONTROLLERS = [pathlib.Path("/sys/fs/cgroup") / name for name in ("memory", "cpu")]


@pytest.mark.skipif(
    os.geteuid() != 0 or not all(os.access(one / "tasks", os.W_OK) for one in CONTROLLERS),
    reason="no control groups of version 1 that this test may make",
)
def test_limits_of_a_real_control_group_count():
    groups = [one / f"cspace_jax_{os.getpid()}" for one in CONTROLLERS]
    limits = {"memory.limit_in_bytes": 3 * 2**30, "cpu.cfs_period_us": 100_000, "cpu.cfs_quota_us": 100_000}
    code = """
import os, sys
for tasks in sys.argv[1:]:
    with open(tasks, "w") as file:
        file.write(str(os.getpid()))
from cspace_jax import machine
print(machine.memory() // 2**20, machine.cores(), machine.has_quota())
"""
    try:
        for group in groups:
            group.mkdir()
            for name, value in limits.items():
                if (group / name).exists():
                    (group / name).write_text(str(value))
        line = [sys.executable, "-c", code, *(str(group / "tasks") for group in groups)]
        environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(machine.__file__).parents[1])}
        done = subprocess.run(line, env=environment, capture_output=True, text=True, check=True)
    finally:
        for group in groups:
            if group.exists():
                group.rmdir()
    memory, cores, quota = done.stdout.split()
    assert 2900 < float(memory) <= 3072 and (cores, quota) == ("1", "True")

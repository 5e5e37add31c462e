import math
import os

import pytest
import torch

from build import cpus
from build.engines.runner import cuda_devices


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("own", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),  # version 2, in a container's own name space
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "400000 100000"}, 4),  # a parent's bounds all
        ("0::/a\n", {"a/cpu.max": "max 100000"}, math.inf),
        ("0::/gone\n", {}, math.inf),
        ("4:cpu,cpuacct:/d\n0::/\n", {"cpu/d/cpu.cfs_quota_us": "50000", "cpu/d/cpu.cfs_period_us": "100000"}, 0.5),
        ("4:cpu:/host/path\n", {"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, math.inf),
        ("4:cpuset:/\n", {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, math.inf),
        ("0::/\n", {"cpu.max": "rubbish"}, math.inf),
    ],
)
def test_quotas_of_both_versions_of_control_groups(tmp_path, own, files, quota):
    write(tmp_path / "proc", own)
    for name, text in files.items():
        write(tmp_path / "cgroup" / name, text)
    assert cpus._quota(tmp_path / "cgroup", tmp_path / "proc") == quota


def test_affinity_and_quota_bound_each_other(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    for quota, expected in ((math.inf, 8), (2.5, 3), (0.2, 1), (64, 8)):
        monkeypatch.setattr(cpus, "_quota", lambda root, own, quota=quota: quota)
        assert cpus.available_cpus() == expected


@pytest.mark.parametrize(
    ("visible", "count", "names"),
    [
        (None, 2, ["0", "1"]),
        ("4,5,6,7", 4, ["4", "5", "6", "7"]),
        ("GPU-8932f937, MIG-3f1c", 2, ["GPU-8932f937", "MIG-3f1c"]),
        ("3,99,1", 1, ["3"]),  # CUDA ignores all from the first invalid one on
        ("", 0, []),
    ],
)
def test_workers_get_the_devices_that_are_visible(monkeypatch, visible, count, names):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert cuda_devices() == names

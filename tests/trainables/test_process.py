import platform
import resource
import subprocess
import sys

import pytest
import torch

from trainables.process import prepare


@pytest.fixture(autouse=True)
def threads_put_back():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("threads", [1, 2])
def test_operations_use_the_threads_asked_for(threads):
    prepare(threads)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(("gpu", "limits"), [(0.25, [0.25]), (0.5, [0.5]), (0, []), (1, []), (2, [])])
def test_a_part_of_a_gpu_is_that_part_of_its_memory(gpu, limits, monkeypatch):
    """Without a GPU: what is seen here is that torch is told the limit, and only where a card is shared."""
    told = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", told.append)
    prepare(1, gpu)
    assert told == limits


FAULTS = """
import resource, sys, torch
from trainables.process import prepare
if sys.argv[1] == "prepared":
    prepare(1)
def step():
    return (torch.zeros(12_000_000) + 1).sum()
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are glibc's")
def test_freed_memory_is_kept_for_the_next_step():
    """Two tensors of 48 MB, more than glibc's largest threshold, are 23,000 pages a step, which come from the kernel once and not each time."""
    faults = {how: int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True).stdout) for how in ("plain", "prepared")}
    assert faults["plain"] > 20 * 1000 / (resource.getpagesize() // 4096)
    assert faults["prepared"] < faults["plain"] / 10

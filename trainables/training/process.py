"""The settings of a process that trains: its threads, and its reuse of memory."""

import ctypes
import platform
from dataclasses import dataclass

import torch

MALLOPT = {"M_MMAP_MAX": (-4, 0), "M_TRIM_THRESHOLD": (-1, 2**31 - 1), "M_TOP_PAD": (-2, 64 << 20)}
"""glibc's `mallopt` parameters (mallopt(3)), and our values for them.

With these, activations of any size are allocated on the heap, which keeps freed memory. By default
each step gets new memory from the kernel, page fault by page fault: for images of 224 x 224 a step
then takes 2.2 times as long, and still 1.6 times as long if only blocks below 32 MiB, the largest
possible threshold, are allocated on the heap.
"""


CONTEXT_BYTES = 640 << 20
"""The GPU memory that a process takes in addition to its tensors, in bytes.

It contains the driver's context and the kernels of cuBLAS and cuDNN, which torch's memory limit
does not include: about half a GiB on current GPUs.
"""


def give_back_memory() -> None:
    """Return freed memory, which the heap has kept, to the operating system."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL("libc.so.6").malloc_trim(0)


@dataclass(frozen=True)
class Settings:
    """The torch settings that `prepare` changes."""

    threads: int
    benchmark: bool


def restore(before: Settings) -> None:
    """Restore torch's settings; those of the C library and the GPU's memory limit remain."""
    torch.set_num_threads(before.threads)
    torch.backends.cudnn.benchmark = before.benchmark


def prepare(threads: int, gpu: float = 0) -> Settings:
    """Set up this process for training: its threads, its memory, and its share of a GPU.

    Freed memory is kept: a process holds the memory of its largest training until it ends, or until
    `give_back_memory`. On a shared GPU the process can allocate only its share of the memory.
    If it needs more, it runs out of memory without affecting the other processes.

    Args:
        threads: the number of threads for an operation. A training on a CPU is reproducible only if
            this number is the same.
        gpu: the share of a GPU for this process; 0 or 1 for no limit.

    Returns:
        The previous settings, for `restore`.
    """
    before = Settings(torch.get_num_threads(), torch.backends.cudnn.benchmark)
    torch.set_num_threads(threads)
    # All batches of a training have the same shape, so that cuDNN searches algorithms only once.
    torch.backends.cudnn.benchmark = True
    if 0 < gpu < 1:
        torch.cuda.set_per_process_memory_fraction(
            memory_fraction(gpu, torch.cuda.mem_get_info()[1])
        )
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL("libc.so.6")
        for parameter, value in MALLOPT.values():
            libc.mallopt(parameter, value)
    return before


def memory_fraction(gpu: float, card_bytes: int) -> float:
    """Return the share of a GPU's memory that the tensors of a process may take.

    It is smaller than the process's share `gpu`, so that the process's context fits in too, but at
    least half of `gpu`.

    Args:
        gpu: the process's share of the GPU.
        card_bytes: the memory of the whole GPU.
    """
    return max(gpu - CONTEXT_BYTES / card_bytes, gpu / 2)

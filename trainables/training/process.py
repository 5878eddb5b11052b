"""What a process that trains sets up once: its threads and how it keeps memory."""

import ctypes
import platform

import torch

MEMORY = {"M_MMAP_MAX": (-4, 0), "M_TRIM_THRESHOLD": (-1, 2**31 - 1), "M_TOP_PAD": (-2, 64 << 20)}
"""glibc's `mallopt` parameters (mallopt(3)) and our values: activations of any size come from the
heap, which keeps what is freed. By default each step gets its memory from the kernel anew, page
fault by page fault: of 224 x 224 images a step takes 1.6 times as long when only what is below 32
MiB, the largest threshold there is, comes from the heap, and 2.2 times by default.
"""


CONTEXT_BYTES = 640 << 20
"""What a process takes of a GPU beside its tensors: the driver's context and the kernels of cuBLAS
and cuDNN, which no limit of torch's counts. About half a GiB on the cards of today.
"""


def give_back_memory() -> None:
    """What has been kept and is not used, to the system."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def prepare(threads: int, gpu: float = 0) -> None:
    """Use this many threads for one operation (a fixed number is also what makes a CPU training
    repeat exactly), and keep freed memory: a process holds what its largest training needed until
    it ends, or `give_back_memory`. Of a GPU that others share (`gpu` is the part that is this
    process's own) no more memory is taken than that part: who needs more runs out of memory itself,
    and not its neighbours.
    """
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = (
        True  # a training's batches have one shape: the fastest convolution is looked for once
    )
    if 0 < gpu < 1:
        torch.cuda.set_per_process_memory_fraction(
            memory_fraction(gpu, torch.cuda.mem_get_info()[1])
        )
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL("libc.so.6")
        for parameter, value in MEMORY.values():
            libc.mallopt(parameter, value)


def memory_fraction(gpu: float, card_bytes: int) -> float:
    """The part of a card's memory for a process's tensors, if it and its context are to fit into
    the part `gpu`; at least half of that.
    """
    return max(gpu - CONTEXT_BYTES / card_bytes, gpu / 2)

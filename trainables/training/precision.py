"""In which number format a network is trained: float32, or bfloat16 under autocast where the
processor gains by it, or float16 on a GPU that has no bfloat16.
"""

import torch
from torch import nn

MIN_WORK = 12e6
"""Floating-point operations a layer and batch, forward, from which bfloat16 is the faster on a CPU
that has it. Below, its conversions cost more than it saves. Measured on an AMD EPYC (Zen 4) over 40
networks and batches, channels last: 0.91 to 0.97 of float32's speed below, 0.97 to 1.75 above.
"""

FP16_FAST = (7, 0)
"""The compute capability from which a GPU multiplies float16 matrices by units of their own
(Volta); before, most have it slower than float32.
"""


def precision_for(
    wanted: str, network: nn.Module, image: tuple[int, int, int], batch: int, device: torch.device
) -> str:
    """`fp32`, `bf16` or `fp16` for what the config says. `auto` depends on the device's kind and
    the amount of work alone, so it never changes on a machine.

    Args:
        wanted: `auto`, or one of these.
        network: freshly built, on the CPU.
        image: (channels, height, width).
        batch: images a step.
        device: where the network is trained.
    """
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16"
        return "fp16" if torch.cuda.get_device_capability(device) >= FP16_FAST else "fp32"
    return "bf16" if has_bf16() and work_per_layer(network, image, batch) >= MIN_WORK else "fp32"


def has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 numbers by itself."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def work_per_layer(network: nn.Module, image: tuple[int, int, int], batch: int) -> float:
    """Floating-point operations of a forward pass over a batch, a layer with weights."""
    each = operations(network, image)
    return sum(each) * batch / max(len(each), 1)


@torch.no_grad()
def operations(network: nn.Module, image: tuple[int, int, int]) -> list[int]:
    """Floating-point operations of each convolution and dense layer for one image (a multiplication
    and an addition are two), counted while a black one passes.
    """
    counted: list[int] = []

    def count(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        counted.append(2 * output.numel() * layer.get_parameter("weight")[0].numel())

    hooks = [
        layer.register_forward_hook(count)
        for layer in network.modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    was_training = network.training
    network.eval()(torch.zeros(1, *image))
    network.train(was_training)
    for hook in hooks:
        hook.remove()
    return counted

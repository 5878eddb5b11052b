"""The number format in which a network is trained.

That is float32, or bfloat16 under autocast where the processor gains by it, or float16 on a GPU
that has no bfloat16.
"""

import torch
from torch import nn

MIN_WORK = 12e6
"""Floating-point operations from which bfloat16 is the faster on a CPU that has it.

They are counted per layer and batch, forward. Below, its conversions cost more than it saves.
Measured on an AMD EPYC (Zen 4) over 40 networks and batches, channels last: 0.91 to 0.97 of
float32's speed below, 0.97 to 1.75 above.
"""

FP16_FAST = (7, 0)
"""The compute capability from which a GPU has units for products of float16 matrices (Volta).

Most GPUs before it are slower in float16 than in float32.
"""


def precision_for(
    wanted: str, network: nn.Module, image: tuple[int, int, int], batch: int, device: torch.device
) -> str:
    """Return `fp32`, `bf16` or `fp16` for what the config says.

    `auto` depends only on the device's kind and the amount of work, so it never changes on a
    machine.

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
    """Return whether this CPU multiplies bfloat16 numbers in hardware."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def work_per_layer(network: nn.Module, image: tuple[int, int, int], batch: int) -> float:
    """Return the floating-point operations of a forward pass over a batch, per layer.

    Only layers with weights count.
    """
    each = operations(network, image)
    return sum(each) * batch / max(len(each), 1)


@torch.no_grad()
def operations(network: nn.Module, image: tuple[int, int, int]) -> list[int]:
    """Return the floating-point operations of each convolution and dense layer for one image.

    A multiplication and an addition are two. They are counted while a black image passes through.
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

"""The choice of the number format in which a network is trained.

It is float32; bfloat16 under autocast, if that is faster on the device; or float16 on a GPU without
bfloat16.
"""

import torch
from torch import nn

MIN_WORK = 12e6
"""The minimum floating-point operations per layer for which `auto` chooses bfloat16 on a CPU.

The number is a mean over the layers, in the forward pass of a batch. Below it, conversions cost
more time than bfloat16 saves. Measured on an AMD EPYC (Zen 4) with 40 combinations of network and
batch size, channels-last: 0.91 to 0.97 of float32's speed below the limit, 0.97 to 1.75 above.
"""

FP16_FAST = (7, 0)
"""The minimum compute capability (Volta) of GPUs with units for products of float16 matrices.

Most earlier GPUs are slower in float16 than in float32.
"""


def precision_for(
    setting: str, network: nn.Module, image: tuple[int, int, int], batch: int, device: torch.device
) -> str:
    """Choose the precision, `fp32`, `bf16` or `fp16`, for the config's setting.

    `auto` depends only on the kind of device and the amount of work, so that the choice is always
    the same on one machine.

    Args:
        setting: `auto`, or one of the precisions.
        network: a new network, on the CPU.
        image: (channels, height, width).
        batch: the number of images in a step.
        device: the device on which the network is trained.
    """
    if setting != "auto":
        return setting
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16"
        return "fp16" if torch.cuda.get_device_capability(device) >= FP16_FAST else "fp32"
    return "bf16" if has_bf16() and work_per_layer(network, image, batch) >= MIN_WORK else "fp32"


def has_bf16() -> bool:
    """True if this CPU has instructions for products of bfloat16 numbers (AVX-512 or AMX)."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def work_per_layer(network: nn.Module, image: tuple[int, int, int], batch: int) -> float:
    """Return the mean floating-point operations per layer in the forward pass of a batch.

    Only convolutions and dense layers are counted.
    """
    each = operations(network, image)
    return sum(each) * batch / max(len(each), 1)


@torch.no_grad()
def operations(network: nn.Module, image: tuple[int, int, int]) -> list[int]:
    """Count the floating-point operations of each convolution and dense layer for one image.

    A multiplication and an addition count as two. The layers are observed in the forward pass of a
    black image, in evaluation mode.
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

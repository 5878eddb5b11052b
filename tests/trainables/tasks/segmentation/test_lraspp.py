import pytest
import torch
from torch import nn

from tests.support.networks import SEGMENTING
from trainables.catalog.models import MODELS

NAMES = [name for name in SEGMENTING if name.startswith("lraspp")]


def build(name: str, **options: object) -> nn.Module:
    torch.manual_seed(0)
    return MODELS[name].build((3, 64, 64), 2, **{**MODELS[name].options, **options}).eval()


@pytest.mark.parametrize("name", NAMES)
def test_the_last_stage_keeps_a_sixteenth_of_the_resolution(name: str) -> None:
    with torch.no_grad():
        maps = build(name).encoder(torch.rand(1, 3, 64, 64))
    assert [stage.shape[2] for stage in maps] == [32, 16, 8, 4, 4]


@pytest.mark.parametrize("name", NAMES)
def test_features_of_the_whole_image_weight_the_others(name: str) -> None:
    """A pixel far outside of the fields of view of all convolutions changes logits everywhere."""
    head = build(name).head
    channels = [head.details.in_channels, head.features[0].in_channels]
    detailed, coarse = torch.rand(1, channels[0], 8, 8), torch.rand(1, channels[1], 4, 4)
    logits = head([torch.empty(0)] * 2 + [detailed, coarse])
    coarse[:, :, 3, 3] += 5
    changed = head([torch.empty(0)] * 2 + [detailed, coarse])
    assert logits.shape == (1, 2, 8, 8)
    assert (logits != changed).all()

import pytest
import torch
from torch import nn
from torchvision.models import segmentation

from trainables.catalog.models import MODELS
from trainables.tasks.segmentation.encoder_networks import PyramidPooling

CLASSES = 5


def build(name: str) -> nn.Module:
    return MODELS[name].build((3, 64, 64), CLASSES, **MODELS[name].options)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fcn_resnet50", "deeplabv3_resnet50"])
def test_with_torchvisions_weights_it_gives_torchvisions_logits(name: str) -> None:
    theirs = getattr(segmentation, name)(
        weights=None, weights_backbone=None, num_classes=CLASSES, aux_loss=None
    )
    ours, images = build(name), torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        theirs.train()(images)  # so that the statistics of batch normalisation matter
        names = {"backbone": "encoder", "classifier": "head.head"}
        ours.load_state_dict(
            {
                f"{names[part]}.{layer}": value
                for part, _, layer, value in (
                    (*key.partition("."), value) for key, value in theirs.state_dict().items()
                )
            }
        )
        torch.testing.assert_close(ours.eval()(images), theirs.eval()(images)["out"])


@pytest.mark.parametrize("name", ["fcn_resnet50", "pspnet_resnet50", "deeplabv3_resnet50"])
def test_the_dropout_of_the_head_is_the_options(name: str) -> None:
    rates = [module.p for module in build(name).modules() if isinstance(module, nn.Dropout)]
    assert rates == [MODELS[name].options["dropout"]]


def test_pyramid_pooling_sees_the_whole_image_and_parts_of_it() -> None:
    pooling = PyramidPooling(8).eval()
    for level in pooling.levels:
        nn.init.ones_(level[1].weight)
    features = torch.rand(1, 8, 12, 12)
    with torch.no_grad():
        pooled = pooling(features)
    assert pooled.shape == (1, 16, 12, 12)
    assert torch.equal(pooled[:, :8], features)
    scale = (1 + pooling.levels[0][2].eps) ** 0.5
    torch.testing.assert_close(
        pooled[0, 8] * scale, features.sum(dim=1).mean().expand(12, 12), rtol=1e-5, atol=1e-5
    )
    assert pooled[0, 10, 0, 0] != pooled[0, 10, 0, 11]

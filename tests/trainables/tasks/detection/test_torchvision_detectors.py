"""SSDLite and Faster R-CNN: the results are torchvision's, but can be exported."""

import math
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import (
    fasterrcnn_mobilenet_v3_large_320_fpn,
    ssdlite320_mobilenet_v3_large,
)
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import MultiScaleRoIAlign

from trainables.models.pretrained import IMAGENET, IMAGENET_DEVIATION, IMAGENET_MEAN
from trainables.models.weights import select_fitting
from trainables.tasks.detection.networks import faster_rcnn, ssd
from trainables.tasks.detection.networks.faster_rcnn import pool
from trainables.tasks.detection.selection import best_boxes

DETECTORS = [ssd, faster_rcnn]
CANDIDATES = {ssd: 312, faster_rcnn: 300}
"""The number of candidates in an image of 96 x 96."""
LOSSES = {ssd: 2, faster_rcnn: 4}

both = pytest.mark.parametrize("module", DETECTORS, ids=["ssd", "faster_rcnn"])


def build(module: ModuleType, classes: int = 3, **options: Any) -> Any:
    torch.manual_seed(0)
    options = {"pretrained": False, "freeze": "nothing", **options}
    return module.build((3, 96, 96), classes, name="", **options)


def drawn() -> tuple[Tensor, Tensor]:
    """Two images of 96 x 96 with a rectangle each, whose color is its class."""
    images = torch.zeros(2, 3, 96, 96)
    boxes = torch.tensor([[[10.0, 20.0, 60.0, 80.0, 0.0, 0.0]], [[30.0, 8.0, 90.0, 50.0, 1, 0]]])
    for image, (box,) in zip(images, boxes, strict=True):
        left, top, right, bottom, number, _ = (int(value) for value in box)
        image[number, top:bottom, left:right] = 1
    return images, boxes


def losses(network: Any, images: Tensor, boxes: Tensor) -> Tensor:
    """The losses of a network whose samples are drawn with a fixed seed."""
    torch.manual_seed(1)
    return network.train()(images, boxes)


def share_of_equals(rows: Tensor, expected: Tensor, pixels: float, score: float) -> float:
    """The share of the expected rows, each with four edges first, that `rows` contains."""
    differences = (expected[:, None] - rows[None]).abs()
    limits = torch.tensor([pixels] * 4 + [score] * (rows.shape[1] - 4))
    return float((differences <= limits).all(dim=2).any(dim=1).float().mean())


def spread(network: Any, images: Tensor) -> None:
    """Make the outputs of a new network differ between places, as those of a trained one."""
    generator = torch.Generator().manual_seed(2)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the statistics of the images replace the initial ones
    with torch.no_grad():
        maps = network.backbone.train()(images)
        if hasattr(network, "detector") or hasattr(network, "head"):
            getattr(network, "detector", network).head.train()(list(maps.values()))
        else:
            for block in network.backbone.fpn.layer_blocks:  # has no batch normalisation
                block[0].weight /= maps["0"].std()
    for name, weights in network.named_parameters():
        if any(part in name for part in ("classification_head", "cls_logits", "cls_score")):
            weights.data = torch.randn(weights.shape, generator=generator)
            weights.data /= math.sqrt(weights[0].numel())
    network.eval()


@both
def test_candidates_have_a_box_and_scores(module: ModuleType) -> None:
    network = build(module)
    for training, channels in ((False, 3), (True, 1)):
        images = torch.rand(2, channels, 96, 96)
        with torch.no_grad():
            candidates = network.train(training)(images)
        assert candidates.shape == (2, CANDIDATES[module], 7)
        assert candidates.dtype == torch.float32
        assert (candidates[..., 4:] >= 0).all()
        assert (candidates[..., 4:] <= 1).all()
    with torch.device("meta"):
        network = build(module)
    for training in (False, True):
        candidates = network.train(training)(torch.zeros(4, 3, 64, 128, device="meta"))
        assert candidates.shape[0] == 4


@both
def test_an_exported_program_needs_no_torchvision(module: ModuleType) -> None:
    network, images = build(module).eval(), torch.rand(3, 3, 96, 96)
    axes = ({0: torch.export.Dim("batch", min=1)},)
    with torch.no_grad():
        program = torch.export.export(network, (images[:2],), dynamic_shapes=axes)
        assert not [node for node in program.graph.nodes if "torchvision" in str(node.target)]
        for count in (1, 3):
            expected = network(images[:count])
            torch.testing.assert_close(program.module()(images[:count]), expected)


@pytest.mark.slow(60)
@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
@both
def test_onnx_runtime_gives_the_same(module: ModuleType, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    network, images = build(module).eval(), torch.rand(3, 3, 96, 96)
    spread(network, images)
    path, axes = tmp_path / "network.onnx", ({0: torch.export.Dim("batch", min=1)},)
    with torch.no_grad():
        program = torch.export.export(network, (images[:2],), dynamic_shapes=axes)
        names = {"input_names": ["images"], "output_names": ["candidates"]}
        torch.onnx.export(program, f=path, dynamo=True, external_data=False, verbose=False, **names)
        session = onnxruntime.InferenceSession(path)
        for count in (1, 3):
            (candidates,) = session.run(None, {"images": images[:count].numpy()})
            for own, expected in zip(candidates, network(images[:count]), strict=True):
                # Candidates with nearly the same score may change places.
                assert share_of_equals(torch.from_numpy(own), expected, 1e-2, 1e-4) > 0.98


@both
def test_a_few_steps_lower_the_losses(module: ModuleType) -> None:
    network, (images, boxes) = build(module), drawn()
    optimizer, sums = torch.optim.Adam(network.parameters(), lr=5e-4), []
    for _ in range(15):
        own = losses(network, images, boxes)
        assert own.shape == (LOSSES[module],)
        assert own.isfinite().all()
        sums.append(own.sum().item())
        optimizer.zero_grad()
        own.sum().backward()
        optimizer.step()
    assert sum(sums[-3:]) < 0.7 * sum(sums[:3])


@both
def test_crowds_and_padding_are_left_out(module: ModuleType) -> None:
    network, (images, boxes) = build(module), drawn()
    crowd = torch.tensor([5.0, 5.0, 90.0, 90.0, 2.0, 1.0]).expand(2, 1, 6)
    empty, flat = torch.full((2, 1, 6), -1.0), boxes.clone()
    flat[..., 2] = flat[..., 0]
    expected = losses(network, images, boxes)
    padded = torch.cat([crowd, boxes, empty, flat], dim=1)
    torch.testing.assert_close(losses(network, images, padded), expected)


@both
def test_images_without_objects_and_single_images_train(module: ModuleType) -> None:
    network, (images, boxes) = build(module), drawn()
    for some, own in ((images, torch.full((2, 3, 6), -1.0)), (images[:1], boxes[:1])):
        loss = losses(network, some, own).sum()
        loss.backward()
        assert loss.isfinite()
    for weights in network.parameters():
        assert weights.grad is None or weights.grad.isfinite().all()


@both
def test_it_trains_in_mixed_precision(module: ModuleType) -> None:
    network, (images, boxes) = build(module), drawn()
    expected = losses(network, images, boxes)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        own = losses(network, images, boxes)
        assert network(images).dtype == torch.float32
    own.sum().backward()
    assert own.dtype == torch.float32
    torch.testing.assert_close(own.sum(), expected.sum(), rtol=0.1, atol=0.1)


@both
def test_frozen_layers_keep_their_weights(module: ModuleType) -> None:
    trained = {
        freeze: sum(
            weights.requires_grad
            for weights in build(module, pretrained=True, freeze=freeze).part.parameters()
        )
        for freeze in ("nothing", "all_but_last_stage", "backbone")
    }
    assert trained["nothing"] > trained["all_but_last_stage"] > trained["backbone"] == 0


def test_pretrained_statistics_of_faster_rcnn_are_constant() -> None:
    network, (images, boxes) = build(faster_rcnn, pretrained=True), drawn()
    before = {name: value.clone() for name, value in network.part.named_buffers()}
    losses(network, images, boxes).sum().backward()
    assert all(value.equal(before[name]) for name, value in network.part.named_buffers())
    assert network.part.body["0"][0].weight.grad is not None


def test_pooled_features_are_those_of_torchvision() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = [
        torch.randn(2, 5, 256 // side, 320 // side, generator=generator) for side in (8, 16, 32)
    ]
    corners = torch.rand(2, 60, 2, 2, generator=generator) * torch.tensor([320.0, 256.0])
    boxes = torch.cat([corners.amin(dim=2), corners.amax(dim=2)], dim=-1)
    boxes[:, :8, 2:] = boxes[:, :8, :2] + 3
    boxes[:, 8:10] = torch.tensor([315.0, 250.0, 320.0, 256.0])
    for own in (maps, maps[1:], maps[2:] * 2):
        names = [str(number) for number in range(len(own))]
        align = MultiScaleRoIAlign(names, 7, 2)
        expected = align(dict(zip(names, own, strict=True)), list(boxes), [(256, 320)] * 2)
        pooled = pool(own, boxes, 256).flatten(0, 1)
        torch.testing.assert_close(pooled, expected, rtol=1e-4, atol=1e-4)


def test_default_boxes_and_anchors_are_those_of_torchvision() -> None:
    images = torch.rand(1, 3, 64, 160)
    listed, size = ImageList(images, [(64, 160)]), (64, 160)
    network = build(ssd).eval()
    maps = list(network.backbone(images).values())
    (expected,) = network.detector.anchor_generator(listed, maps)
    torch.testing.assert_close(network.default_boxes(maps, size), expected)
    network = build(faster_rcnn).eval()
    maps = list(network.backbone(images).values())
    (expected,) = network.rpn.anchor_generator(listed, maps)
    assert network.anchors(maps, size)[0].equal(expected)


def load(network: Any, original: Any) -> None:
    """Load torchvision's weights: those of the backbone as published ones, and all others."""
    weights = original.state_dict()
    fitting = select_fitting(network, weights, Path("weights.pth"), "detector")
    assert set(fitting) == set(network.part.state_dict())
    network.part.load_state_dict(fitting)
    network.normalise(IMAGENET)
    heads = {name: value for name, value in weights.items() if not name.startswith("backbone.")}
    if hasattr(network, "detector"):
        heads = {f"detector.{name}": value for name, value in heads.items()}
    assert not network.load_state_dict(heads, strict=False).unexpected_keys


def shared_boxes(network: Any, original: Any, image: Tensor, overlap: float) -> float:
    """The share of torchvision's boxes for an image that the network returns too."""
    with torch.no_grad():
        (expected,) = original([image])
        (boxes,) = best_boxes(network(image[None]), (image.shape[1], image.shape[2]), 3000, overlap)
    assert len(expected["scores"]) > 10
    rows = torch.cat(
        [expected["boxes"], expected["scores"][:, None], expected["labels"][:, None] - 1], dim=1
    )
    return share_of_equals(boxes, rows, 0.05, 1e-3)


def test_ssd_returns_the_boxes_of_torchvision() -> None:
    torch.manual_seed(3)
    original = ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=3, topk_candidates=3234, score_thresh=0.3
    ).eval()
    image = torch.rand(3, 320, 320)
    scaled, _ = original.transform([image, image.flip(1)])
    spread(original, scaled.tensors)
    network = build(ssd, 2, pretrained=True).eval()
    load(network, original)
    # `are_visible` is not exact for long chains, which untrained networks have.
    assert shared_boxes(network, original, image, 0.55) > 0.95


def test_faster_rcnn_returns_the_boxes_of_torchvision() -> None:
    torch.manual_seed(3)
    original = fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=3,
        min_size=64,
        max_size=96,
        rpn_pre_nms_top_n_test=300,
        rpn_post_nms_top_n_test=100,
        rpn_score_thresh=0.0,
        box_score_thresh=0.0,
        box_nms_thresh=1.0,
        box_detections_per_img=300,
        image_mean=IMAGENET_MEAN,
        image_std=IMAGENET_DEVIATION,
    ).eval()
    image = torch.rand(3, 64, 96)
    scaled, _ = original.transform([image, image.flip(1)])
    spread(original, scaled.tensors)
    network = build(faster_rcnn, 2, pretrained=True).eval()
    load(network, original)
    assert shared_boxes(network, original, image, 1.0) > 0.9

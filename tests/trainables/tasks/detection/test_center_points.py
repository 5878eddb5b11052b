"""Selecting and fusing boxes, and the losses of a detector without anchors."""

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms, generalized_box_iou

from trainables.tasks.detection import selection
from trainables.tasks.detection.networks import center_points
from trainables.tasks.detection.networks.center_points import (
    REGION,
    STRIDE,
    CenterNetwork,
    build,
    candidates,
    losses,
)
from trainables.tasks.detection.selection import (
    ROUNDS,
    are_visible,
    best_boxes,
    fuse_boxes,
    generalised_iou,
    overlaps,
)

SIZE = (64, 96)
"""The height and width of the images."""
ROWS, COLUMNS = SIZE[0] // STRIDE, SIZE[1] // STRIDE
NO_BOX = [0.0, 0.0, 0.0, 0.0, -1.0, 0.0]


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Selection


def random_boxes(seed: int, count: int, *, spread: float = 100.0) -> Tensor:
    """Draw boxes of 10 to 60 pixels around places within `spread` pixels, (8, count, 4)."""
    draw = generator(seed)
    middle = 50 + spread * (torch.rand(8, count, 2, generator=draw) - 0.5)
    sides = 10 + 50 * torch.rand(8, count, 2, generator=draw)
    return torch.cat([middle - sides / 2, middle + sides / 2], dim=-1)


@pytest.mark.parametrize("spread", [10.0, 40.0, 100.0])
@pytest.mark.parametrize("overlap", [0.3, 0.6])
def test_the_best_boxes_are_those_of_nms(spread: float, overlap: float) -> None:
    edges = random_boxes(1, 120, spread=spread)
    scores = torch.rand(8, 120, 3, generator=generator(2))
    selected = best_boxes(torch.cat([edges, scores], dim=-1), (90, 95), 100, overlap)
    assert selected.shape == (8, 100, 6)
    cut = edges.clamp(min=0)
    cut = torch.minimum(cut, torch.tensor([95.0, 90.0, 95.0, 90.0]))
    hidden = 0
    for own, own_edges, own_scores in zip(selected, cut, scores, strict=True):
        top, at = own_scores.flatten().topk(100)
        rows, numbers = at // 3, at % 3
        keep = batched_nms(own_edges[rows], top, numbers, overlap)
        expected = torch.column_stack([own_edges[rows], top, numbers])[keep]
        assert torch.equal(own[own[:, 4] > 0], expected)
        hidden += 100 - len(keep)
    assert hidden > 30


@pytest.mark.parametrize("classes", [1, 4])
def test_visible_boxes_are_those_of_nms(classes: int) -> None:
    for seed in range(20):
        edges = random_boxes(seed, 80, spread=10.0 + 5 * seed)
        numbers = torch.randint(classes, edges.shape[:2], generator=generator(seed))
        visible = are_visible(edges, numbers, 0.5)
        scores = torch.linspace(1, 0.1, 80)
        for own, own_numbers, own_visible in zip(edges, numbers, visible, strict=True):
            keep = batched_nms(own, scores, own_numbers, 0.5)
            assert own_visible.nonzero()[:, 0].tolist() == sorted(keep.tolist())


def chain(length: int) -> Tensor:
    """Return boxes of which each hides only the next one, (1, length, 4)."""
    left = 4.0 * torch.arange(length)
    return torch.stack([left, 0 * left, left + 20, 0 * left + 20], dim=-1)[None]


@pytest.mark.parametrize("length", [2, 5, ROUNDS, ROUNDS + 1])
def test_a_chain_of_boxes_that_hide_each_other_is_exact_up_to_the_rounds(length: int) -> None:
    visible = are_visible(chain(length), torch.zeros(1, length, dtype=torch.long), 0.5)
    assert visible[0].tolist() == [1.0 - row % 2 for row in range(length)]


def test_fewer_candidates_than_boxes_are_returned_as_they_are() -> None:
    one = torch.tensor([[[1.0, 2.0, 9.0, 8.0, 0.7]]])
    assert best_boxes(one, SIZE, 100, 0.6)[0].tolist() == [pytest.approx([1, 2, 9, 8, 0.7, 0])]


def test_generalised_iou_is_that_of_torchvision() -> None:
    first, second = random_boxes(1, 50)[0], random_boxes(2, 50)[0]
    expected = generalized_box_iou(first, second).diagonal()
    torch.testing.assert_close(generalised_iou(first, second), expected)
    assert expected.min() < -0.2
    assert expected.max() > 0.2
    assert float(generalised_iou(first, first).min()) == pytest.approx(1)


def test_overlaps_of_empty_boxes_are_zero() -> None:
    empty = torch.tensor([[5.0, 5.0, 5.0, 5.0], [9.0, 9.0, 3.0, 3.0]])
    assert not overlaps(empty, torch.tensor([[0.0, 0.0, 10.0, 10.0]])).any()


# Fusion


def member_boxes() -> Tensor:
    """Return three boxes that do not overlap, and one hidden one, of two images."""
    own = torch.tensor(
        [
            [0.0, 0.0, 10.0, 10.0, 0.9, 0.0],
            [20.0, 0.0, 40.0, 10.0, 0.6, 1.0],
            [0.0, 30.0, 10.0, 60.0, 0.3, 1.0],
            [0.0, 0.0, 11.0, 10.0, 0.0, 0.0],
        ]
    )
    return torch.stack([own, own + torch.tensor([5.0, 0.0, 5.0, 0.0, 0.0, 0.0])])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_identical_members_find_the_boxes_of_each(count: int) -> None:
    own = member_boxes()
    fused = fuse_boxes([own] * count)
    assert fused.shape == own.shape
    torch.testing.assert_close(fused[:, :3], own[:, :3])
    assert not fused[:, 3, 4].any()


def test_a_box_that_only_one_member_finds_has_half_the_score() -> None:
    own, other = member_boxes(), member_boxes()
    other[:, 1:, 4] = 0
    fused = fuse_boxes([own, other])
    expected = own.clone()
    expected[:, 1:, 4] /= 2
    torch.testing.assert_close(fused[:, :3], expected[:, :3])


def test_edges_are_averaged_by_the_scores() -> None:
    first = torch.tensor([[[0.0, 0.0, 10.0, 10.0, 0.9, 0.0]]])
    second = torch.tensor([[[2.0, 0.0, 12.0, 10.0, 0.3, 0.0]]])
    fused = fuse_boxes([first, second])
    assert fused[0].tolist() == [pytest.approx([0.5, 0, 10.5, 10, 0.6, 0])]


def test_boxes_of_several_classes_at_one_place_are_not_fused() -> None:
    first = torch.tensor([[[0.0, 0.0, 10.0, 10.0, 0.8, 0.0], [0.0, 0.0, 10.0, 10.0, 0.6, 2.0]]])
    second = first.clone()
    second[..., 5] += 1
    fused = fuse_boxes([first, second])
    assert fused[0, :, 4].tolist() == pytest.approx([0.4, 0.4])
    assert set(fused[0, :, 5].tolist()) == {0, 1}


# Candidates


def test_a_peak_is_a_candidate_and_its_neighbours_are_none() -> None:
    heat = torch.zeros(1, 2, ROWS, COLUMNS)
    heat[0, 1, 5, 7], heat[0, 1, 5, 8], heat[0, 0, 6, 8] = 0.8, 0.7, 0.4
    distances = torch.zeros(1, 4, ROWS, COLUMNS)
    distances[0, :, 5, 7] = torch.tensor([10.0, 3.0, 20.0, 7.0])
    own = candidates(heat, distances)[0]
    assert own.shape == (ROWS * COLUMNS, 6)
    # The middle of the cell is at x = 30 and y = 22.
    assert own[5 * COLUMNS + 7].tolist() == pytest.approx([20, 19, 50, 29, 0, 0.8])
    assert own[5 * COLUMNS + 8, 4:].tolist() == [0, 0]
    assert own[6 * COLUMNS + 8, 4:].tolist() == pytest.approx([0.4, 0]), "of another class"
    assert int((own[:, 4:] > 0).sum()) == 2


# Losses


def perfect_outputs(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits and distances that are right for boxes of one image; of two, the later wins."""
    heat = torch.full((1, 2, ROWS, COLUMNS), -20.0)
    distances = torch.ones(1, 4, ROWS, COLUMNS)
    y, x = torch.meshgrid(
        (torch.arange(ROWS) + 0.5) * STRIDE, (torch.arange(COLUMNS) + 0.5) * STRIDE, indexing="ij"
    )
    for left, top, right, bottom, number, crowd in boxes[0].tolist():
        if number < 0 or crowd:
            continue
        heat[0, int(number), int((top + bottom) / 2 / STRIDE), int((left + right) / 2 / STRIDE)] = (
            20
        )
        width, height = (right - left) / STRIDE, (bottom - top) / STRIDE
        is_taught = ((x // STRIDE - (left + right) // 2 // STRIDE).abs() <= REGION * width / 2) & (
            (y // STRIDE - (top + bottom) // 2 // STRIDE).abs() <= REGION * height / 2
        )
        own = torch.stack([x - left, y - top, right - x, bottom - y])
        distances[0] = torch.where(is_taught, own, distances[0])
    return heat, distances


BOXES = torch.tensor(
    [
        [
            [3.0, 5.0, 41.0, 49.0, 0.0, 0.0],
            [60.0, 10.0, 90.0, 30.0, 1.0, 0.0],
            [70.0, 40.0, 78.0, 61.0, 1.0, 0.0],
            [16.0, 20.0, 30.0, 36.0, 1.0, 0.0],  # within the first one
        ]
    ]
)


def test_perfect_outputs_have_no_loss() -> None:
    own = losses(*perfect_outputs(BOXES), BOXES)
    assert own.tolist() == pytest.approx([0, 0], abs=1e-4)


@pytest.mark.parametrize("wrong", ["no peak", "false peak", "another class"])
def test_a_wrong_heat_map_has_a_loss(wrong: str) -> None:
    heat, distances = perfect_outputs(BOXES)
    peak = heat == 20
    if wrong == "no peak":
        heat[peak] = -20
    elif wrong == "false peak":
        heat[0, 0, 1, -2] = 20
    else:
        heat = heat.flip(1)
    heat_loss, edge_loss = losses(heat, distances, BOXES).tolist()
    assert heat_loss > 3
    assert edge_loss == pytest.approx(0, abs=1e-4)


def test_wrong_edges_have_the_loss_of_their_generalised_iou() -> None:
    box = BOXES[:, 1:2]
    heat, distances = perfect_outputs(box)
    distances[:, 2] += 10  # to the right
    heat_loss, edge_loss = losses(heat, distances, box).tolist()
    assert heat_loss == pytest.approx(0, abs=1e-4)
    # The box of 30 x 20 pixels becomes one of 40 x 20 that contains it.
    assert edge_loss == pytest.approx(center_points.BOX_WEIGHT * (1 - 30 / 40), abs=1e-4)


def test_rows_that_are_no_box_have_no_effect() -> None:
    draw = generator(0)
    heat = torch.randn(1, 2, ROWS, COLUMNS, generator=draw)
    distances = 30 * torch.rand(1, 4, ROWS, COLUMNS, generator=draw)
    padding = torch.tensor([NO_BOX, [3.0, 5.0, 60.0, 60.0, -1.0, 1.0]]).repeat(20, 1)[None]
    expected = losses(heat, distances, BOXES)
    torch.testing.assert_close(losses(heat, distances, torch.cat([BOXES, padding], 1)), expected)
    torch.testing.assert_close(losses(heat, distances, torch.cat([padding, BOXES], 1)), expected)


@pytest.mark.parametrize("at_once", [1, 3])
def test_it_does_not_matter_how_many_boxes_are_drawn_at_once(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = generator(1)
    heat = torch.randn(2, 2, ROWS, COLUMNS, generator=draw)
    distances = 30 * torch.rand(2, 4, ROWS, COLUMNS, generator=draw)
    start = 40 * torch.rand(2, 10, 2, generator=draw)
    sides = 4 + 20 * torch.rand(2, 10, 2, generator=draw)
    numbers = torch.randint(2, (2, 10, 1), generator=draw)
    boxes = torch.cat([start, start + sides, numbers, torch.zeros(2, 10, 1)], dim=-1)
    expected = losses(heat, distances, boxes)
    monkeypatch.setattr(center_points, "AT_ONCE", at_once)
    torch.testing.assert_close(losses(heat, distances, boxes), expected)


def test_the_heat_map_within_a_crowd_is_ignored() -> None:
    crowd = torch.tensor([[[40.0, 32.0, 68.0, 64.0, 0.0, 1.0]]])
    boxes = torch.cat([BOXES[:, 1:2], crowd], dim=1)
    heat, distances = perfect_outputs(boxes)
    before = losses(heat, distances, boxes)
    within = (slice(None), slice(None), slice(8, 16), slice(10, 17))
    heat[within] = 20
    torch.testing.assert_close(losses(heat, distances, boxes), before)
    assert losses(heat, distances, boxes[:, :1])[0] > before[0] + 10
    heat[0, :, 8, 9] = 20  # the cell left of the crowd
    assert losses(heat, distances, boxes)[0] > before[0] + 1


def test_an_object_smaller_than_a_cell_is_learned() -> None:
    box = torch.tensor([[[49.0, 21.0, 50.5, 22.0, 0.0, 0.0]]])
    heat = torch.full((1, 2, ROWS, COLUMNS), -20.0)
    distances = torch.ones(1, 4, ROWS, COLUMNS)
    assert losses(heat, distances, box)[0] > 10
    heat[0, 0, 5, 12] = 20
    heat_loss, edge_loss = losses(heat, distances, box).tolist()
    assert heat_loss == pytest.approx(0, abs=1e-4)
    assert edge_loss > 0


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    return build((3, *SIZE), 2, width=8)


def test_a_network_returns_candidates_or_losses(network: nn.Module) -> None:
    images = torch.rand(2, 3, *SIZE, generator=generator(0))
    own = network.eval()(images)
    assert own.shape == (2, ROWS * COLUMNS, 6)
    assert 0 <= float(own[..., 4:].detach().min()) <= float(own[..., 4:].detach().max()) < 0.1
    both = network.train()(images, BOXES.expand(2, -1, -1))
    assert both.shape == (2,)
    assert both.isfinite().all()


def test_images_without_objects_teach_only_the_heat_map(network: nn.Module) -> None:
    images = torch.rand(2, 3, *SIZE, generator=generator(0))
    heat_loss, edge_loss = network(images, torch.tensor([[NO_BOX]]).expand(2, -1, -1))
    assert heat_loss.item() > 0
    assert edge_loss.item() == 0
    (heat_loss + edge_loss).backward()
    gradients = [weights.grad for weights in network.parameters() if weights.grad is not None]
    assert all(own.isfinite().all() for own in gradients)
    assert any(own.any() for own in gradients)


def test_an_image_without_objects_does_not_change_the_edges_of_others() -> None:
    heat, distances = perfect_outputs(BOXES)
    distances = 1.3 * distances
    alone = losses(heat, distances, BOXES)
    empty = torch.tensor([[NO_BOX] * BOXES.shape[1]])
    joined = losses(
        torch.cat([heat, torch.full_like(heat, -20)]),
        torch.cat([distances, distances]),
        torch.cat([BOXES, empty]),
    )
    torch.testing.assert_close(joined, alone)


def test_a_few_steps_find_the_objects_of_an_image(network: nn.Module) -> None:
    image = torch.zeros(1, 3, *SIZE)
    for left, top, right, bottom, number, _ in BOXES[0, 1:3].int().tolist():
        image[0, number, top:bottom, left:right] = 1
    boxes = BOXES[:, 1:3]
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(80):
        optimizer.zero_grad()
        network(image, boxes).sum().backward()
        optimizer.step()
    assert isinstance(network, CenterNetwork)
    with torch.no_grad():
        selected = best_boxes(network(image), SIZE, 5, 0.6)[0]
    shares = overlaps(boxes[0, :, :4], selected[:2, :4])
    assert shares.amax(dim=1).min() > 0.7
    assert selected[1, 4] > 3 * selected[2, 4]


def test_rounds_are_enough_for_dense_boxes_in_random_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each cluster has boxes of nearly one place and size, as networks find them."""
    for overlap in (0.3, 0.6):
        for seed in range(10):
            edges = random_boxes(seed, 100, spread=12.0)
            numbers = torch.zeros(edges.shape[:2], dtype=torch.long)
            monkeypatch.setattr(selection, "ROUNDS", ROUNDS)
            usual = are_visible(edges, numbers, overlap)
            monkeypatch.setattr(selection, "ROUNDS", 100)
            assert torch.equal(usual, are_visible(edges, numbers, overlap))

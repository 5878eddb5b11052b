"""Do explanations show what a network looks at? Three measurements, printed as Markdown.

    python -m tests.bench.explanations mark
    python -m tests.bench.explanations cells --bccd FOLDER --weights FOLDER

`mark`: small digits in strong noise, with a coloured square at a random place. In the images of the
first training its colour agrees with the class; it is necessary, because the noise hides half of
the digits. After a fix the colours are random. The share of the positive attribution inside the
square is printed before and after, beside the square's share of the area.

`cells`: crops of microscope images (BCCD) with white blood cells or platelets at a random place,
classified by a fine-tuned MobileNetV2. A map hits if its maximum is in the box of a cell of the
class (pointing game, Zhang et al. 2016).

Both print how many maps are faithful, and how many pass the check of the weights: of the trained
network, of an untrained one, and maps of a network with random layers that are presented as those
of the trained one.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from trainables.catalog.explanations import supported_methods
from trainables.checkpoints import checkpoint
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset, Images
from trainables.datasets.load import load
from trainables.explanations.examples import spread_rows
from trainables.explanations.explain import COMPUTE, Explanation, explain, judge_maps
from trainables.explanations.explainable import ExplainableModel, load_explainable
from trainables.training.loop import Training

SIDE, MARK = 32, 5
"""The side of a digit and of its mark, in pixels."""
CONTRAST, GREY, NOISE = 0.12, 70, 60
"""The factor of a digit's pixels, the grey that is added, and the deviation of the noise.

With less noise, or more contrast, networks learn the digits and ignore the mark.
"""
MARK_SETTINGS = {
    "data.name": "folder", "model.name": "deep_cnn", "model.layers": 8, "epochs": 15,
    "precision": "fp32",
}  # fmt: skip
"""The network and its training with marks."""
COLOURS = np.array(
    [
        (230, 25, 75), (60, 180, 75), (255, 225, 25), (0, 130, 200), (245, 130, 48),
        (145, 30, 180), (70, 240, 240), (240, 50, 230), (128, 0, 0), (170, 255, 195),
    ],
    np.uint8,
)  # fmt: skip
CROP, SHRUNK = 320, 96
"""The side of a crop around a cell in the microscope image, and to which it is resized."""
EXPLAINED = 40
"""The number of validation images that are explained."""

Box = tuple[float, float, float, float]
"""The left, top, right and bottom edge of a box, in pixels."""


def marked_digits(folder: Path, *, agrees: bool, seed: int) -> dict[str, tuple[int, int]]:
    """Write digits with a mark as folders of classes; return the mark's row and column by name."""
    generator, data, places = np.random.default_rng(seed), load_digits(), {}
    for number, (pixels, label) in enumerate(zip(data.images, data.target, strict=True)):
        digit = Image.fromarray(np.round(pixels * 255 / 16).astype(np.uint8)).resize((SIDE, SIDE))
        noise = generator.normal(GREY, NOISE, (SIDE, SIDE))
        grey = np.clip(CONTRAST * np.asarray(digit) + noise, 0, 255).astype(np.uint8)
        image = np.repeat(grey[..., None], 3, axis=2)
        row, column = (int(place) for place in generator.integers(0, SIDE - MARK + 1, 2))
        colour = label if agrees else generator.integers(10)
        image[row : row + MARK, column : column + MARK] = COLOURS[colour]
        name = f"{label}/{number:04}.png"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / name)
        places[name] = row, column
    return places


def boxes_of(annotation: Path) -> list[tuple[str, Box]]:
    """Read the class and the box of each cell; invalid boxes are left out."""
    cells = []
    for cell in ElementTree.parse(annotation).iter("object"):
        edges = [float(cell.findtext(f"bndbox/{edge}", "0")) for edge in ("xmin", "ymin")]
        edges += [float(cell.findtext(f"bndbox/{edge}", "0")) for edge in ("xmax", "ymax")]
        left, top, right, bottom = edges
        if right - left > 4 and bottom - top > 4:
            cells.append((cell.findtext("name", ""), (left, top, right, bottom)))
    return cells


def crop_cells(bccd: Path, folder: Path, seed: int) -> dict[str, list[Box]]:
    """Write crops as `train/CLASS` and `val/CLASS`; return the boxes of the class by name.

    A crop of the class `WBC` or `Platelets` has a cell of this class whole, and none of the other
    one; its class is named after it. A crop of `none` has neither.
    """
    generator, places = np.random.default_rng(seed), {}
    for part, listed in (("train", ("train", "val")), ("val", ("test",))):
        names = [
            name
            for text in listed
            for name in (bccd / f"ImageSets/Main/{text}.txt").read_text().split()
        ]
        for name in names:
            cells = [
                cell for cell in boxes_of(bccd / f"Annotations/{name}.xml") if cell[0] != "RBC"
            ]
            image = Image.open(bccd / f"JPEGImages/{name}.jpg").convert("RGB")
            for number, (label, boxes, corner) in enumerate(_crops(cells, image.size, generator)):
                path = f"{part}/{label}/{name}-{number}.png"
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                left, top = corner
                image.crop((left, top, left + CROP, top + CROP)).resize((SHRUNK, SHRUNK)).save(
                    folder / path
                )
                places[path] = boxes
    return places


def _crops(
    cells: list[tuple[str, Box]], size: tuple[int, int], generator: np.random.Generator
) -> Iterator[tuple[str, list[Box], tuple[int, int]]]:
    """Yield the class, the boxes of the class (in pixels of the resized crop), and the corner."""
    width, height = size
    for wanted in [*cells, None]:
        for _ in range(60):
            left = int(generator.integers(0, width - CROP + 1))
            top = int(generator.integers(0, height - CROP + 1))
            inside = [
                (label, _within(box, left, top))
                for label, box in cells
                if _overlaps(box, left, top)
            ]
            labels = {label for label, _ in inside}
            if wanted is None and not labels:
                yield "none", [], (left, top)
                break
            if wanted is not None and labels == {wanted[0]} and _is_whole(wanted[1], left, top):
                yield wanted[0], [box for _, box in inside], (left, top)
                break


def _overlaps(box: Box, left: int, top: int) -> bool:
    return box[0] < left + CROP and box[2] > left and box[1] < top + CROP and box[3] > top


def _is_whole(box: Box, left: int, top: int) -> bool:
    return box[0] >= left and box[1] >= top and box[2] <= left + CROP and box[3] <= top + CROP


def _within(box: Box, left: int, top: int) -> Box:
    scale = SHRUNK / CROP
    return (
        (box[0] - left) * scale, (box[1] - top) * scale,
        (box[2] - left) * scale, (box[3] - top) * scale,
    )  # fmt: skip


def is_hit(boxes: Sequence[Box], x: float, y: float) -> bool:
    """True if a point is in one of the boxes."""
    return any(left <= x <= right and top <= y <= bottom for left, top, right, bottom in boxes)


def train(config: TrialConfig, dataset: Dataset, folder: Path, *, epochs: bool) -> Path:
    """Train a network, or save it untrained, and return its checkpoint."""
    training = Training(config, dataset)
    if epochs:
        *_, last = training.epochs()
        print(f"{config.model.name}: validation accuracy {last.values['val/accuracy']:.3f}")
    return checkpoint.save(folder, training.state(), {})


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table in Markdown."""
    for row in (columns, ["---"] * len(columns), *rows):
        print(f"| {' | '.join(row)} |", flush=True)
    print()


def verdicts(explanations: Sequence[Explanation]) -> list[str]:
    """Return the cells of a row: score, random maps, faithful, correlation, passed."""
    scores = [explanation.score for explanation in explanations]
    random = [explanation.random_score for explanation in explanations]
    correlations = [explanation.correlation for explanation in explanations]
    return [
        f"{np.mean(scores):+.3f}",
        f"{np.mean(random):+.3f}",
        f"{np.mean([explanation.is_faithful for explanation in explanations]):.0%}",
        f"{np.mean(correlations):+.2f} (p90 {np.quantile(correlations, 0.9):+.2f})",
        f"{np.mean([explanation.depends_on_weights is True for explanation in explanations]):.0%}",
    ]


COLUMNS = ["network", "method", "score", "random maps", "faithful", "correlation", "pass the check"]


def judged_rows(
    model: ExplainableModel, untrained: ExplainableModel, name: str, images: Images
) -> Iterator[tuple[str, list[Explanation], list[str]]]:
    """Explain images with every method, and yield the explanations with rows of the table."""
    classes = model.predict(images).argmax(axis=1)
    for method in supported_methods(name):
        start = time.perf_counter()
        COMPUTE[method](model, images, classes)
        maps_s = time.perf_counter() - start
        explained = explain(model, method, images)
        total_s = time.perf_counter() - start - maps_s
        print(f"{method}: {len(images)} maps in {maps_s:.1f} s, with verdicts {total_s:.1f} s")
        yield method, explained, ["trained", method, *verdicts(explained)]
        yield method, [], ["untrained", method, *verdicts(explain(untrained, method, images))]
        foreign = COMPUTE[method](model.with_random_layers((99, 0)), images, classes)
        judged = judge_maps(model, method, images, classes, foreign)
        yield method, [], ["trained; maps of random layers", method, *verdicts(judged)]


def measure_mark(folder: Path, seeds: int) -> None:
    """Print the share of attribution inside a mark, before and after the fix, and the verdicts."""
    shares, rows = [], []
    for seed in range(seeds):
        before, after = folder / f"{seed}/before", folder / f"{seed}/after"
        places = {
            before: marked_digits(before, agrees=True, seed=seed),
            after: marked_digits(after, agrees=False, seed=seed),
        }
        configs = {
            root: TrialConfig().override({**MARK_SETTINGS, "data.root": str(root), "seed": seed})
            for root in places
        }
        datasets = {root: load(config.data) for root, config in configs.items()}
        for root, config in configs.items():
            path = train(config, datasets[root], folder / f"{seed}-{root.name}", epochs=True)
            with load_explainable(config, datasets[root], path) as model:
                right = [_accuracy(model, datasets[marks]) for marks in places]
                judged = _judge_marked(model, datasets[root], places[root])
            shares.append(
                [str(seed), root.name, *(f"{share:.1%}" for share in right)]
                + [f"{inside:.1%}" for inside, _ in judged.values()]
            )
            if seed == 0:
                rows += [
                    [f"{root.name} the fix", method, *verdicts(explained)]
                    for method, (_, explained) in judged.items()
                ]
    accuracies = ["accuracy with marks that agree", "accuracy with random marks"]
    print(f"The mark's share of the area: {MARK**2 / SIDE**2:.1%}")
    print_table(["seed", "the fix", *accuracies, *COMPUTE], shares)
    print_table(COLUMNS, rows)


def _accuracy(model: ExplainableModel, dataset: Dataset) -> float:
    guesses = model.predict(dataset.val.images).argmax(axis=1)
    return float((guesses == dataset.val.targets).mean())


def _judge_marked(
    model: ExplainableModel, dataset: Dataset, places: dict[str, tuple[int, int]]
) -> dict[str, tuple[float, list[Explanation]]]:
    """Explain validation images; return the mean share inside the mark by method, and the maps."""
    some = dataset.val.take(spread_rows(dataset.val, EXPLAINED))
    judged = {}
    for method in COMPUTE:
        explained = explain(model, method, some.images)
        inside = [
            share_inside(explanation.values, places[name])
            for explanation, name in zip(explained, some.names or [], strict=True)
        ]
        judged[method] = float(np.mean(inside)), explained
    return judged


def share_inside(values: NDArray[Any], place: tuple[int, int]) -> float:
    """Return the share of the positive attribution inside a mark."""
    positive, (row, column) = np.maximum(values, 0), place
    inside = positive[row : row + MARK, column : column + MARK].sum()
    return float(inside / max(positive.sum(), 1e-12))


def measure_cells(folder: Path, bccd: Path, weights: Path, seed: int) -> None:
    """Print the accuracy of the pointing game, and the verdicts."""
    places = crop_cells(bccd, folder / "cells", seed)
    settings = {
        "data.name": "folder", "data.root": str(folder / "cells"), "model.name": "mobilenet_v2",
        "model.pretrained": True, "model.weights": str(weights), "model.input_size": SHRUNK,
        "epochs": 3, "optimizer.lr": 3e-4, "precision": "fp32", "seed": seed,
    }  # fmt: skip
    config = TrialConfig().override(settings)
    dataset = load(config.data)
    names = dataset.val.names or []
    rows_of_cells = [row for row, name in enumerate(names) if places[_key(name)]]
    chosen = np.random.default_rng(seed).permutation(rows_of_cells)[:EXPLAINED]
    some = dataset.val.take(np.sort(chosen))
    boxes = [places[_key(name)] for name in some.names]
    off_centre = np.array([not is_hit(box, SHRUNK / 2, SHRUNK / 2) for box in boxes])
    paths = [train(config, dataset, folder / f"cells-{on}", epochs=on) for on in (True, False)]
    table, rows = [["image centre", f"{1 - off_centre.mean():.0%}", "0%"]], []
    areas = [box_share(box) for box in boxes]
    table.append(
        ["random pixel", f"{np.mean(areas):.0%}", f"{np.mean(np.array(areas)[off_centre]):.0%}"]
    )
    with (
        load_explainable(config, dataset, paths[0]) as model,
        load_explainable(config, dataset, paths[1]) as untrained,
    ):
        right = model.predict(some.images).argmax(axis=1) == some.targets
        print(f"{len(boxes)} crops, {off_centre.sum()} off centre; {right.mean():.0%} right")
        for method, explained, row in judged_rows(model, untrained, "mobilenet_v2", some.images):
            rows.append(row)
            if explained:
                hits = np.array(
                    [_points_at(one, box) for one, box in zip(explained, boxes, strict=True)]
                )
                table.append([method, f"{hits.mean():.0%}", f"{hits[off_centre].mean():.0%}"])
    print_table(["pointing at", "all crops", "crops whose centre is outside the cell"], table)
    print_table(COLUMNS, rows)


def _key(name: str) -> str:
    """Return the part, the class and the file of an image's name."""
    return "/".join(Path(name).parts[-3:])


def _points_at(explanation: Explanation, boxes: Sequence[Box]) -> bool:
    row, column = np.unravel_index(explanation.values.argmax(), explanation.values.shape)
    return is_hit(boxes, float(column) + 0.5, float(row) + 0.5)


def box_share(boxes: Sequence[Box]) -> float:
    """Return the share of a crop's pixels that are in a box."""
    centres = np.arange(SHRUNK) + 0.5
    return float(np.mean([is_hit(boxes, x, y) for y in centres for x in centres]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("measurement", choices=("mark", "cells"))
    parser.add_argument("--bccd", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory(prefix="explanations-") as temporary:
        if options.measurement == "mark":
            measure_mark(Path(temporary), options.seeds)
        else:
            measure_cells(Path(temporary), options.bccd, options.weights, seed=0)


if __name__ == "__main__":
    main()

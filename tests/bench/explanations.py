"""Do explanations show what a network looks at? Three measurements, printed as Markdown.

    python -m tests.bench.explanations mark
    python -m tests.bench.explanations cells --bccd FOLDER --weights FOLDER
    python -m tests.bench.explanations foreign --mnist FOLDER --bccd FOLDER --weights FOLDER

`mark`: small digits in strong noise, with a coloured square at a random place. In the images of the
first training its colour agrees with the class; it is necessary, because the noise hides half of
the digits. After a fix the colours are random. The share of the positive attribution inside the
square is printed before and after, beside the square's share of the area.

`cells`: crops of microscope images (BCCD) with a white blood cell or a platelet at a random place,
or with red blood cells only, classified by a fine-tuned MobileNetV2. A map hits if its maximum is
in the box of a cell of the class (pointing game, Zhang et al. 2018, section 4.2, without the
tolerance of 15 pixels).

`foreign`: how many maps of networks with random layers pass the check when they are presented as
those of the trained network, and how many of its own maps do.
"""

import argparse
import tempfile
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
from trainables.datasets.arrays import Dataset
from trainables.datasets.load import load
from trainables.explanations.examples import spread_rows
from trainables.explanations.explain import (
    COMPUTE,
    Explanation,
    explain,
    judge_maps,
    load_explainable,
    with_random_layers,
)
from trainables.explanations.maps import ExplainableModel
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
LEAST_SHARE = 0.6
"""The smallest share of a cell's box that is inside its crop.

Were cells whole, the centre of nearly all crops of white blood cells would be in the cell.
"""
ATTEMPTS = 60
"""The number of random places that are tried for a crop."""
FOREIGN_NETWORKS, FOREIGN_IMAGES = 20, 20
"""The number of networks with random layers, and of images that each of these explains."""
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

    A crop of the class `WBC` or `Platelets` has a cell of this class, at least `LEAST_SHARE` of it,
    at a random place, and none of the other one. A crop of `RBC` has neither of them. Red blood
    cells are in almost every crop.
    """
    generator, places = np.random.default_rng(seed), {}
    for part, listed in (("train", ("train", "val")), ("val", ("test",))):
        names = [
            name
            for text in listed
            for name in (bccd / f"ImageSets/Main/{text}.txt").read_text().split()
        ]
        for name in names:
            cells = boxes_of(bccd / f"Annotations/{name}.xml")
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
    for label, box in [*(cell for cell in cells if cell[0] != "RBC"), ("RBC", None)]:
        for _ in range(ATTEMPTS):
            left = int(generator.integers(0, width - CROP + 1))
            top = int(generator.integers(0, height - CROP + 1))
            inside = [cell for cell in cells if _overlaps(cell[1], left, top)]
            is_shown = box is None or _share_shown(box, left, top) >= LEAST_SHARE
            if is_shown and {name for name, _ in inside} | {"RBC"} == {label, "RBC"}:
                boxes = [_within(edges, left, top) for name, edges in inside if name == label]
                if boxes:
                    yield label, boxes, (left, top)
                break


def _overlaps(box: Box, left: int, top: int) -> bool:
    return box[0] < left + CROP and box[2] > left and box[1] < top + CROP and box[3] > top


def _share_shown(box: Box, left: int, top: int) -> float:
    """Return the share of a box's area that is inside the crop."""
    width = min(box[2], left + CROP) - max(box[0], left)
    height = min(box[3], top + CROP) - max(box[1], top)
    return max(width, 0) * max(height, 0) / ((box[2] - box[0]) * (box[3] - box[1]))


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


def cell_settings(root: Path, weights: Path, seed: int) -> dict[str, Any]:
    """Return the settings of a training with crops of cells."""
    return {
        "data.name": "folder", "data.root": str(root), "model.name": "mobilenet_v2",
        "model.pretrained": True, "model.weights": str(weights), "model.input_size": SHRUNK,
        "epochs": 6, "optimizer.lr": 3e-4, "precision": "fp32", "seed": seed,
    }  # fmt: skip


def measure_cells(folder: Path, bccd: Path, weights: Path, seeds: int) -> None:
    """Print the accuracy of the pointing game by class, of all methods, centres and pixels."""
    rows = []
    for seed in range(seeds):
        root = folder / f"{seed}/cells"
        places = crop_cells(bccd, root, seed)
        config = TrialConfig().override(cell_settings(root, weights, seed))
        dataset = load(config.data)
        some = dataset.val
        path = train(config, dataset, folder / f"{seed}/model", epochs=True)
        hits = _baseline_hits([places[_key(name)] for name in some.names or []])
        with load_explainable(config, dataset, path) as model:
            guesses = model.predict(some.images).argmax(axis=1)
            for method, compute in COMPUTE.items():
                maps = compute(model, some.images, guesses)
                hits[method] = np.array(
                    [
                        _points_at(values, places[_key(name)])
                        for values, name in zip(maps, some.names or [], strict=True)
                    ]
                )
        rows += _pointing_rows(seed, dataset, guesses == some.targets, hits)
    print_table(["seed", "crops of", "number", "right", *hits], rows)


def _baseline_hits(places: Sequence[list[Box]]) -> dict[str, NDArray[Any]]:
    """Return by pointer the probability that it hits each crop."""
    return {
        "image centre": np.array([is_hit(boxes, SHRUNK / 2, SHRUNK / 2) for boxes in places]),
        "random pixel": np.array([box_share(boxes) for boxes in places]),
    }


def _pointing_rows(
    seed: int, dataset: Dataset, is_right: NDArray[np.bool_], hits: dict[str, NDArray[Any]]
) -> Iterator[list[str]]:
    """Yield the rows of a seed: each class, and the crops whose centre is outside the cells.

    Only crops that are classified correctly count: their class is the one whose boxes are tested.
    """
    off_centre = ~hits["image centre"]
    is_red = dataset.val.targets == dataset.classes.index("RBC")
    groups = {
        **{name: dataset.val.targets == number for number, name in enumerate(dataset.classes)},
        "WBC and Platelets, centre outside": off_centre & ~is_red,
    }
    for title, members in groups.items():
        chosen = members & is_right
        shares = [f"{values[chosen].mean():.0%}" for values in hits.values()]
        yield [str(seed), title, str(chosen.sum()), f"{is_right[members].mean():.0%}", *shares]


def _key(name: str) -> str:
    """Return the part, the class and the file of an image's name."""
    return "/".join(Path(name).parts[-3:])


def _points_at(values: NDArray[Any], boxes: Sequence[Box]) -> bool:
    row, column = np.unravel_index(values.argmax(), values.shape)
    return is_hit(boxes, float(column) + 0.5, float(row) + 0.5)


def box_share(boxes: Sequence[Box]) -> float:
    """Return the share of a crop's pixels that are in a box."""
    centres = np.arange(SHRUNK) + 0.5
    return float(np.mean([is_hit(boxes, x, y) for y in centres for x in centres]))


def measure_foreign(folder: Path, data: dict[str, dict[str, Any]]) -> None:
    """Print the share of foreign maps, and of the network's own, that pass the verdicts.

    Args:
        folder: for the checkpoints.
        data: the settings of a training by its title.
    """
    rows = []
    for title, settings in data.items():
        config = TrialConfig().override(settings)
        dataset = load(config.data)
        images = dataset.val.take(spread_rows(dataset.val, FOREIGN_IMAGES)).images
        path = train(config, dataset, folder / title, epochs=True)
        with load_explainable(config, dataset, path) as model:
            classes = model.predict(images).argmax(axis=1)
            for method in supported_methods(config.model.name):
                judged = []
                for number in range(FOREIGN_NETWORKS):
                    foreign = with_random_layers(model, (99, number))
                    maps = COMPUTE[method](foreign, images, classes)
                    judged += judge_maps(model, method, images, classes, maps, seed=number)
                own = explain(model, method, images)
                rows.append([title, method, *_pass_rates(own), *_pass_rates(judged)])
                print_table([title, method, "own", "both", "foreign", "both"], rows[-1:])
    columns = [
        "data and network", "method", "own maps pass the check", "and are faithful",
        f"foreign maps ({FOREIGN_NETWORKS * FOREIGN_IMAGES}) pass", "and are faithful",
    ]  # fmt: skip
    print_table(columns, rows)


def _pass_rates(judged: Sequence[Explanation]) -> list[str]:
    passed = np.array([explanation.depends_on_weights is True for explanation in judged])
    faithful = np.array([explanation.is_faithful for explanation in judged])
    return [f"{passed.mean():.1%}", f"{(passed & faithful).mean():.1%}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("measurement", choices=("mark", "cells", "foreign"))
    parser.add_argument("--bccd", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--mnist", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory(prefix="explanations-") as temporary:
        if options.measurement == "mark":
            measure_mark(Path(temporary), options.seeds)
        elif options.measurement == "foreign":
            root = Path(temporary)
            crop_cells(options.bccd, root / "cells", seed=0)
            marked_digits(root / "digits", agrees=False, seed=7)
            measure_foreign(
                root,
                {
                    "marked digits, deep_cnn": {**MARK_SETTINGS, "data.root": str(root / "digits")},
                    "MNIST, mnist_cnn": {
                        "data.name": "mnist", "data.root": str(options.mnist), "epochs": 2,
                        "data.train_limit": 5000, "model.name": "mnist_cnn", "precision": "fp32",
                    },
                    "cells, mobilenet_v2": cell_settings(root / "cells", options.weights, seed=0),
                },
            )  # fmt: skip
        else:
            measure_cells(Path(temporary), options.bccd, options.weights, options.seeds)


if __name__ == "__main__":
    main()

"""The rows that compare one process with another: training steps, and making batches.

See `work.py`.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.bench.commands import execute, scratch
from tests.bench.table import Figures, Row, Side

RATE: dict[str, Any] = {"figure": "images_s", "unit": "a second", "more_is_better": True}
NETS = (
    ("P7", "table2, 1 x 28 x 28", "table2", (1, 28, 28), 64, 30, "auto"),
    ("P7b", "table2, 1 x 28 x 28", "table2", (1, 28, 28), 128, 15, "auto"),
    ("P7c", "table2, 3 x 224 x 224", "table2", (3, 224, 224), 16, 2, "auto"),
    ("P7d", "ResNet-18, 3 x 224 x 224", "resnet18", (3, 224, 224), 16, 2, "auto"),
    ("P7e", "table2, 1 x 28 x 28, no bfloat16", "table2", (1, 28, 28), 64, 30, "fp32"),
    ("P7f", "table2, 3 x 224 x 224, no bfloat16", "table2", (3, 224, 224), 16, 2, "fp32"),
    ("P7g", "ResNet-18, 3 x 224 x 224, no bfloat16", "resnet18", (3, 224, 224), 16, 2, "fp32"),
)
"""Row, title, network, image, batch size, steps a round, and our precision."""


def alone(*words: object) -> Figures:
    """Run one side in a process of its own."""
    with scratch() as folder:
        printed, _, _ = execute(["tests.bench.work", *words], folder)
    figures: Figures = json.loads(printed.splitlines()[-1])
    return figures


def rows(data_root: str, quick: bool) -> list[Row]:
    """Return the rows P7, P8 and P9."""
    seconds = 1.0 if quick else 8.0
    steps = [*(step_row(*net, seconds) for net in NETS), workers_row(seconds)]
    return [
        *steps,
        data_row("P8", "", 0, data_root, seconds),
        data_row("P8b", ", random crop", 2, data_root, seconds),
    ]


def workers_row(seconds: float) -> Row:
    """Return the row on one thread a worker, and as many workers as cores."""
    words = [
        "step",
        "--net",
        "table2",
        "--batch",
        64,
        "--steps",
        30,
        "--seconds",
        seconds,
        "--side",
        "ours",
    ]
    return Row(
        name="P9",
        what=(
            "images a second on 2 cores, table2, batch 64: one worker with 2 threads, against "
            "two with one each"
        ),
        theirs=Side("one worker, 2 threads", lambda seed: alone(*words, "--threads", 2)),
        ours=Side("two workers, 1 thread each", lambda seed: side_by_side(*words)),
        **RATE,
    )


def side_by_side(*words: object) -> Figures:
    """Run two at once, and return the sum of their rates."""
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(alone, *words) for _ in range(2)]
        return {"images_s": sum(one.result()["images_s"] for one in both)}


def step_row(
    name: str,
    title: str,
    net: str,
    image: tuple[int, int, int],
    batch: int,
    steps: int,
    precision: str,
    seconds: float,
) -> Row:
    """Return a row on images a second on one core."""
    words = [
        "step",
        "--net",
        net,
        "--image",
        *image,
        "--batch",
        batch,
        "--steps",
        steps,
        "--seconds",
        seconds,
        "--precision",
        precision,
    ]
    return Row(
        name=name,
        what=f"images a second on one core: {title}, batch {batch}, against stock torch",
        theirs=Side(f"stock step, {title}, {batch}", lambda seed: alone(*words, "--side", "stock")),
        ours=Side(f"our step, {title}, {batch}", lambda seed: alone(*words, "--side", "ours")),
        **RATE,
    )


def data_row(name: str, title: str, crop: int, data_root: str, seconds: float) -> Row:
    """Return a row on microseconds an image of the data path."""
    words = [
        "data",
        "--crop",
        crop,
        "--batch",
        128,
        "--seconds",
        seconds,
        "--data-root",
        Path(data_root).absolute(),
    ]
    return Row(
        name=name,
        what=(
            f"microseconds an MNIST image until it is in a batch of 128{title}: PIL, "
            "transforms and DataLoader"
        ),
        theirs=Side(f"stock data{title}", lambda seed: alone(*words, "--side", "stock")),
        ours=Side(f"our data{title}", lambda seed: alone(*words, "--side", "ours")),
        figure="us",
        unit="us",
    )

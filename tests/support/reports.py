"""What a report is made of, and its text."""

import base64
import io
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from search.journal.events import from_json
from search.journal.journal import Event
from search.journal.result import SearchResult
from search.views.text.verdict import verdict
from trainables.tasks.classification.report import report

SCRIPT, LONG = (
    "<script>alert(1)</script>",
    "a class whose name has exactly sixty characters and no more!",
)


def evaluated(classes: tuple[str, ...]) -> dict[str, Any]:
    """An evaluation as a worker writes it."""
    generator = np.random.default_rng(len(classes))
    labels = generator.integers(0, len(classes), 1000)
    chances = generator.random((1000, len(classes))) + 2 * np.eye(len(classes))[
        labels
    ] * generator.random((1000, 1))
    buffer = io.BytesIO()
    Image.fromarray(generator.integers(0, 256, (8, 8), dtype=np.uint8)).save(
        buffer, "WEBP", lossless=True
    )
    picture = base64.b64encode(buffer.getvalue()).decode()
    wrong = [
        {"row": row, "true": 0, "guess": 1, "confidence": 0.9, "webp": picture} for row in range(12)
    ]
    return {**report(labels, chances / chances.sum(axis=1, keepdims=True), classes), "wrong": wrong}


def verdict_texts(result: SearchResult, decided: Sequence[str] = ()) -> dict[str, str]:
    """Return the verdict's sentences as text, by their titles."""
    return {title: str(sentence) for title, sentence in verdict(result, decided)}


def candidates(names: list[str]) -> list[dict[str, Any]]:
    """Return the rows of three candidates: one is chosen, one as good, one dropped."""
    rows = [
        {
            "candidate": names[0],
            "model": "table2",
            "search_value": 0.95,
            "mean": 0.9,
            "std": 0.01,
            "seeds": 5,
            "accuracies": [0.89, 0.9, 0.91, 0.9, 0.9],
        },
        {
            "candidate": names[1],
            "model": SCRIPT,
            "search_value": 0.94,
            "mean": 0.89,
            "std": 0.02,
            "seeds": 5,
            "accuracies": [0.87, 0.87, 0.89, 0.91, 0.91],
        },
        {
            "candidate": names[2],
            "model": "svm",
            "search_value": 0.93,
            "mean": 0.8,
            "std": 0.0141,
            "seeds": 2,
            "accuracies": [0.79, 0.81],
        },
    ]
    states = [("chosen", 0.0, 1.0), ("tied", 0.01, 0.3), ("dropped", 0.1, 0.001)]
    for row, (state, difference, p) in zip(rows, states, strict=True):
        row |= {
            "state": state,
            "difference": difference,
            "p": p,
            "reason": "it fell behind" if state == "dropped" else "",
            "ms_per_image": 1.5,
        }
    return rows


def select(result: SearchResult) -> None:
    """Three candidates trained again, one of them chosen."""
    names = [trial.trial for trial in result.ranking[:3]]
    expected = {"mean": 0.9, "low": 0.893, "high": 0.907, "std": 0.01, "seeds": 5}
    who = {"candidate": names[0], "leader": names[0], "trial": f"{names[0]}-s1"}
    told = {
        **who,
        "level": 0.95,
        "alpha": 0.05,
        "expected": expected,
        "search_value": 0.95,
        "rows": candidates(names),
    }
    first = result.trials[names[0]]
    repeat = {
        "trial": f"{names[0]}-s1",
        "params": first.params,
        "config": {**first.config, "seed": 77},
        "repeat_of": names[0],
        "seed": 77,
    }
    test = {
        "trial": f"{names[0]}-s1",
        "epoch": 1,
        "test": evaluated(("a", "b")),
        "by": "search.select",
    }
    metrics = {
        "train/loss": 1.0,
        "val/loss": 0.1,
        "val/accuracy": 0.9,
        "lr": 0.001,
        "time/epoch_s": 0.25,
    }
    for number, (kind, data) in enumerate(
        (
            (
                "selecting",
                {
                    "candidates": names,
                    "seeds": 5,
                    "alpha": 0.05,
                    "began_ms": 1_795_001_000_000,
                    "slots": 2,
                },
            ),
            ("suggested", repeat),
            ("epoch", {"trial": f"{names[0]}-s1", "epoch": 1, "metrics": metrics}),
            ("selected", told),
            ("tested", test),
            ("concluded", {"outcome": "completed", "reason": ""}),
        )
    ):
        result.apply(Event(10**6 + number, 1_795_001_000_000 + number, from_json(kind, data)))


def words(page: str) -> str:
    """Return the page's text on one line."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.partition("</style>")[2]))

"""Explanations point at a mark that a network needs, and no longer after it tells nothing."""

from pathlib import Path

import numpy as np
import pytest

from tests.bench.explanations import (
    LEAST_SHARE,
    MARK,
    MARK_SETTINGS,
    SIDE,
    _share_shown,
    boxes_of,
    marked_digits,
    share_inside,
    train,
)
from trainables.config import TrialConfig
from trainables.datasets.load import load
from trainables.explanations.examples import spread_rows
from trainables.explanations.explain import COMPUTE, load_explainable

AREA = MARK**2 / SIDE**2


def shares_inside(folder: Path, *, agrees: bool) -> tuple[float, dict[str, float]]:
    """Train with marks; return the validation accuracy, and the share inside by method."""
    places = marked_digits(folder / "images", agrees=agrees, seed=0)
    config = TrialConfig().override(
        {**MARK_SETTINGS, "data.root": str(folder / "images"), "epochs": 10, "seed": 0}
    )
    dataset = load(config.data)
    some = dataset.val.take(spread_rows(dataset.val, 30))
    path = train(config, dataset, folder / "model", epochs=True)
    with load_explainable(config, dataset, path) as model:
        accuracy = (model.predict(dataset.val.images).argmax(axis=1) == dataset.val.targets).mean()
        classes = model.predict(some.images).argmax(axis=1)
        shares = {
            method: np.mean(
                [
                    share_inside(values, places[name])
                    for values, name in zip(
                        compute(model, some.images, classes), some.names or [], strict=True
                    )
                ]
            )
            for method, compute in COMPUTE.items()
        }
    return float(accuracy), shares


@pytest.mark.slow
def test_attribution_is_inside_a_mark_that_is_needed(tmp_path: Path) -> None:
    for name in ("before", "after"):
        (tmp_path / name).mkdir()
    accuracy, before = shares_inside(tmp_path / "before", agrees=True)
    fixed_accuracy, after = shares_inside(tmp_path / "after", agrees=False)
    assert accuracy > fixed_accuracy + 0.2
    assert all(share > 4 * AREA for share in before.values()), before
    assert all(share < 2.5 * AREA for share in after.values()), after


def test_the_share_of_a_box_inside_a_crop() -> None:
    assert _share_shown((0, 0, 100, 100), 0, 0) == 1
    assert _share_shown((0, 0, 100, 100), 40, 0) == pytest.approx(LEAST_SHARE)
    assert _share_shown((0, 0, 100, 100), 150, 0) == 0


def test_invalid_boxes_are_left_out(tmp_path: Path) -> None:
    box = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>{}</xmax><ymax>20</ymax></bndbox>"
    cells = "".join(f"<object><name>WBC</name>{box.format(edge)}</object>" for edge in (30, 1))
    (tmp_path / "a.xml").write_text(f"<annotation>{cells}</annotation>")
    assert boxes_of(tmp_path / "a.xml") == [("WBC", (1, 2, 30, 20))]

"""The ranking of a data set's labels, and its description in a report."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from search.operations.data import DataRequest, config_of
from trainables.config import DataConfig
from trainables.errors import ConfigError
from trainables.inspection.leaks import InspectedData, load_inspected
from trainables.inspection.report import DataReport, report_of
from trainables.inspection.words import label_lines
from trainables.label_errors.ranking import (
    RankedLabels,
    check_labels,
    describe_ranking,
    rank_labels,
)
from trainables.probes.probe import model_for_files

KINDS = ("across", "blank", "down")


def draw(kind: str, generator: np.random.Generator) -> Image.Image:
    pixels = generator.normal(120, 12, (24, 24))
    if kind == "across":
        pixels[::4] = 255
    if kind == "down":
        pixels[:, ::4] = 255
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def stripes(folder: Path, *, wrong: int) -> Path:
    """300 pictures of three kinds, of which the first `wrong` have the label of another kind."""
    generator = np.random.default_rng(0)
    for number in range(300):
        kind = KINDS[number % 3]
        steps = 1 + number % 2 if number < wrong else 0
        path = folder / KINDS[(number + steps) % 3] / f"{number}-{kind}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        draw(kind, generator).save(path)
    return folder


def is_wrong(file: str) -> bool:
    return not file.endswith(f"-{file.partition('/')[0]}.png")


def ranked_stripes(folder: Path, checked: set[str]) -> tuple[RankedLabels, InspectedData]:
    config = DataConfig(name="folder", root=str(folder))
    inspected = load_inspected(config)
    return rank_labels(inspected, config, model_for_files(None), checked), inspected


def test_planted_errors_come_first_and_are_counted(tmp_path: Path) -> None:
    ranked, inspected = ranked_stripes(stripes(tmp_path / "stripes", wrong=30), set())
    files = [inspected.places.file(int(number)) for number in ranked.numbers[ranked.order]]
    assert sum(map(is_wrong, files[:30])) >= 28
    suggested = [ranked.classes[each] for each in ranked.suggestions[ranked.order[:20]]]
    assert all(f"-{name}.png" in file for name, file in zip(suggested, files, strict=False))
    described = describe_ranking(ranked, inspected.places)
    assert described.expected == pytest.approx(30, abs=8)
    assert described.suspicious[0].webp
    lines = label_lines(described)
    assert any("with the label 'across' that show" in line for line in lines)
    assert sum(line.endswith(" %") for line in lines) == 20


def test_checked_labels_are_not_suspicious(tmp_path: Path) -> None:
    folder = stripes(tmp_path / "stripes", wrong=30)
    checked = {path.relative_to(folder).as_posix() for path in folder.rglob("[0-2]-*.png")}
    ranked, inspected = ranked_stripes(folder, checked)
    files = {inspected.places.file(int(number)) for number in ranked.numbers[ranked.order]}
    assert sum(map(is_wrong, files)) >= 25
    assert not files & checked
    assert describe_ranking(ranked, inspected.places).checked == 3


def test_right_labels_are_not_announced(tmp_path: Path) -> None:
    ranked, inspected = ranked_stripes(stripes(tmp_path / "stripes", wrong=0), set())
    described = describe_ranking(ranked, inspected.places)
    assert (described.expected, described.likely) == (0, 0)
    assert label_lines(described)[1].startswith("There is no evidence of wrong labels (300 labels")


def test_equal_images_of_two_classes_are_to_be_checked_though_they_are_left_out(
    tmp_path: Path,
) -> None:
    folder = stripes(tmp_path / "all", wrong=0)
    for number, path in enumerate(sorted(folder.rglob("*.png"))):
        part = "test" if number % 3 == 0 else "train"
        place = tmp_path / "stripes" / part / path.relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        path.rename(place)
    right = sorted((tmp_path / "stripes/test/down").iterdir())[0]
    wrong = tmp_path / "stripes/test/across/same.png"
    wrong.write_bytes(right.read_bytes())
    ranked, inspected = ranked_stripes(tmp_path / "stripes", set())
    assert len(inspected.contradicting) == 2
    files = [inspected.places.file(int(number)) for number in ranked.numbers[ranked.order]]
    assert files[0] == "test/across/same.png"
    assert f"test/down/{right.name}" not in files[:5]


def test_copies_of_one_class_are_checked_once(tmp_path: Path) -> None:
    folder = stripes(tmp_path / "all", wrong=0)
    place = tmp_path / "stripes"
    (place / "test").mkdir(parents=True)
    folder.rename(place / "train")
    for kind in KINDS:
        copied = sorted((place / "train" / kind).iterdir())[0]
        (place / "test" / kind).mkdir()
        (place / "test" / kind / "copy.png").write_bytes(copied.read_bytes())
        draw(kind, np.random.default_rng(1)).save(place / "test" / kind / "own.png")
    ranked, inspected = ranked_stripes(place, set())
    assert len(inspected.removed_images) == 3
    assert len(ranked.labels) == 303


def test_a_report_with_labels_is_stored_as_json(tmp_path: Path) -> None:
    ranked, inspected = ranked_stripes(stripes(tmp_path / "stripes", wrong=30), set())
    report = report_of(inspected, DataConfig(name="folder", root=str(tmp_path)))
    assert report.to_json()["labels"] is None
    described = replace(report, labels=describe_ranking(ranked, inspected.places))
    assert described.labels
    assert described.labels.suspicious
    assert DataReport.from_json(json.loads(json.dumps(described.to_json()))) == described


def test_data_without_classes_of_images_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"is for segmentation\. Leave out --labels"):
        check_labels(config_of(DataRequest(data="scenes")), "--labels")

"""`--groups`: from the option to the metric, the output, the report and MLflow."""

from pathlib import Path

import pytest

from search.journal.result import SearchResult
from search.journal.store import home
from search.views.page.page import render
from tests.conftest import Command
from tests.search.conftest import Inline


@pytest.fixture
def words(marked_images: tuple[Path, Path], tmp_path: Path) -> tuple[object, ...]:
    folder, groups = marked_images
    return (
        *("--space", "groups", "--data", f"folder:{folder}", "--groups", groups, "--name", "g"),
        *("--trials", 2, "--scheduler", "fifo", "--set", "epochs=2", "--storage", tmp_path / "s"),
        *("--set", "model.width=4", "--set", "data.test_fraction=0.4", "--set", "batch_size=16"),
    )


def test_the_worst_group_is_found_and_named(
    words: tuple[object, ...], inline: Inline, tmp_path: Path
) -> None:
    done, summary = inline("run", *words, "--metric", "worst_group_accuracy")
    assert summary["groups"]["part"] == "test"
    worst = summary["groups"]["worst"]
    assert worst["group"] in ("mark=red", "mark=green")
    assert (
        f"The worst group of test images is class '{worst['class']}' with {worst['group']}: "
        f"{100 * worst['accuracy']:.1f} % of {worst['images']} images" in done.stderr
    )
    assert "\nBy mark, from " in done.stderr
    assert summary["best"]["test_value"] == worst["accuracy"]
    place = home(tmp_path / "s", "g")
    page = render(SearchResult.read(place.opened()), place.folder)
    assert "<h3>Groups: mark</h3>" in page
    assert "Classes within groups, the lowest accuracy first" in page
    assert f"with {worst['group']}" in page


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("--groups", "none.csv"), "is not a file. Pass a CSV file with the columns image and"),
        (("--data", "digits"), "whose images are not files. Use --data folder:PATH"),
    ],
)
def test_groups_that_cannot_be_used_are_refused_in_one_line(
    words: tuple[object, ...], call: Command, change: tuple[str, str], problem: str
) -> None:
    done = call("search.run", *words, *change, "--executor", "inline")
    assert done.returncode == 2
    assert problem in done.stderr.splitlines()[-1]


def test_balanced_groups_need_groups(call: Command) -> None:
    done = call("search.run", "--space", "groups", "--executor", "inline", "--trials", 3)
    assert done.returncode == 2
    assert "requires groups of images. Pass --groups FILE.csv" in done.stderr.splitlines()[-1]

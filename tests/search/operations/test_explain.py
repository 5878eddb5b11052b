"""A search's model explained by the command line: the page, its pictures, and refusals."""

import json
from pathlib import Path

import pytest
from PIL import Image

from search.api import explain as explain_in_python
from search.operations.explain import MOST_IMAGES
from tests.conftest import Command
from tests.search.conftest import Inline
from tests.support.played import OpenDriver, play


@pytest.fixture
def searched(inline: Inline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a search `tiny` for digits, with one trained network."""
    monkeypatch.chdir(tmp_path)
    settings = ["model.name=table2", "epochs=3", "data.train_limit=300", "optimizer.lr=0.003"]
    words = [word for setting in settings for word in ("--set", setting)]
    done, _ = inline("run", "--name", "tiny", "--space", "smoke", "--trials", "1", *words)
    assert done.returncode == 0, done.stderr
    return tmp_path


@pytest.mark.slow
def test_mistakes_and_files_are_explained_on_a_page(searched: Path, call: Command) -> None:
    done = call("search.explain", "tiny", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)["explanations"]
    assert (report["method"], report["page"]) == (
        "integrated_gradients",
        "tiny-explained/index.html",
    )
    mistakes = [image for image in report["images"] if image["class"] != image["true_class"]]
    assert mistakes
    assert all(len(image["similar"]) == 5 for image in mistakes)
    assert report["faithful"] == sum(image["faithfulness"]["passed"] for image in report["images"])
    page = (searched / "tiny-explained" / "index.html").read_text()
    assert page.count("<section") == len(report["images"])
    assert page.count("<circle") + page.count("<rect") > 100
    assert "<script" not in page
    files = sorted(path.name for path in (searched / "tiny-explained").glob("*-map.png"))
    assert len(files) == len(report["images"])
    assert "the report of the search shows some of these maps too" in done.stderr
    assert "What it looks at" in (searched / "searches/tiny/report.html").read_text()

    (searched / "photos" / "3").mkdir(parents=True)
    Image.new("L", (40, 30), 200).save(searched / "photos" / "3" / "a.png")
    (searched / "photos" / "3" / "b.png").write_text("no image")
    done = call("search.explain", "tiny", "photos", "--method", "occlusion", "--out", "files")
    assert (done.returncode, (searched / "files" / "001-map.png").is_file()) == (3, True)
    assert "photos/3/b.png" in done.stdout
    image, *_ = explain_in_python("tiny", "photos/3/a.png", method="gradcam").images
    assert (image.name, image.true_class) == ("photos/3/a.png", None)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["none.png"], "there is no file or folder 'none.png'."),
        (["empty"], "no readable image was found in empty. Pass image files or folders"),
        (
            ["many"],
            f"there are more than {MOST_IMAGES} images in many. Pass at most {MOST_IMAGES}.",
        ),
        (["--out", "page.html"], "--out 'page.html' is a file. Pass the path of a folder."),
        (["--out", "none/page"], "is in 'none', which is not a folder. Create it first."),
        (["--trial", "t0077"], "the search 'played' has no trial of this name with a result."),
    ],
)
def test_what_cannot_be_explained_is_refused_before_any_work(
    words: list[str],
    line: str,
    open_driver: OpenDriver,
    experiment: object,
    tmp_path: Path,
    call: Command,
) -> None:
    play(open_driver(experiment))  # type: ignore[arg-type]
    (tmp_path / "page.html").touch()
    for name, count in (("empty", 0), ("many", MOST_IMAGES + 1)):
        (tmp_path / name).mkdir()
        for number in range(count):
            (tmp_path / name / f"{number}.png").touch()
    done = call("search.explain", "played", *words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert line in done.stderr

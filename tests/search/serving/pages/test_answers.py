"""The page of a server whose answers refer to pixels: boxes, and enlarged images.

By keyboard, with axe, and at the widths of a phone and of a laptop.
"""

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from search.serving.pages import drop
from tests.search.serving.pages.test_drop import DROP
from tests.search.web.test_newcomer import IMPACTS, WAIT_MS, WIDTHS, Newcomer
from tests.support.browser import browser
from tests.support.promoted import png
from tests.support.serving import running
from trainables.checkpoints import checkpoint
from trainables.config import DataConfig, TrialConfig
from trainables.datasets.load import load, with_root
from trainables.export.export import write
from trainables.export.model import model_class
from trainables.training.loop import Training
from trainables.trial import run_trial

axe = pytest.importorskip("axe_playwright_python.sync_playwright")
playwright = pytest.importorskip("playwright.sync_api")
pytestmark = [pytest.mark.browser, pytest.mark.slow]


def enlarger(folder: Path) -> tuple[TrialConfig, Path]:
    """Save a small network that was not trained."""
    config = TrialConfig().on(with_root(DataConfig(train_limit=8), "photographs", ""))
    config = config.override(
        {"model.name": "espcn", "model.width": 8, "precision": "fp32", "data.image_size": 16}
    )
    training = Training(config, load(config.data))
    return config, checkpoint.save(folder, training.state(), {})


def detector(folder: Path) -> tuple[TrialConfig, Path]:
    """Fit the baseline, which needs no training."""
    data = with_root(DataConfig(train_limit=80, val_limit=20), "digit_scenes", "")
    config = TrialConfig().on(data).override({"model.name": "blob_forest", "model.trees": 5})
    list(run_trial(config, load(config.data), folder))
    return config, folder / "epoch-0001"


MODELS = {"super_resolution": enlarger, "detection": detector}


@pytest.fixture(scope="module", params=MODELS)
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, int, Path]]:
    """The task, the port of a server of a model, and a file with an image."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("served")
    config, saved = MODELS[request.param](folder / "saved")
    dataset = load(config.data)
    write(config, dataset, saved, folder / "model")
    image = dataset.val.images[0]
    (folder / "photo.png").write_bytes(png(image))
    classes = tuple(model_class(folder / "model")(folder / "model", "").classes)
    context = drop.DropContext("models:/pets", classes, lambda: "1", corrects=False)
    with running(folder / "model", more_routes=drop.routes(context)) as server:
        yield request.param, server.port, folder / "photo.png"


@pytest.fixture
def visitor(served: tuple[str, int, Path]) -> Iterator[Newcomer]:
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(
            executable_path=browser(), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        host = f"127.0.0.1:{served[1]}"
        made = Newcomer(chromium.new_page(), host)
        made.page.goto(f"http://{host}/")
        yield made
        chromium.close()


def check_answer(visitor: Newcomer, task: str, photo: Path, number: int) -> None:
    """Check the newest of this number of answers, and how the page shows it."""
    page = visitor.page
    playwright.expect(page.locator("#answers h2")).to_have_count(number, timeout=WAIT_MS)
    newest = page.locator("#answers > li").first
    with Image.open(photo) as image:
        width, height = image.size
    if task == "super_resolution":
        enlarged = newest.get_by_role("img", name=f"{2 * width} x {2 * height} pixels")
        playwright.expect(enlarged).to_be_visible(timeout=WAIT_MS)
        assert enlarged.evaluate("image => image.naturalWidth") == 2 * width
    else:
        boxes = newest.locator("svg rect")
        playwright.expect(boxes.first).to_be_visible(timeout=WAIT_MS)
        assert newest.locator("svg").get_attribute("viewBox") == f"0 0 {width} {height}"
        legend = newest.locator(".boxes + p").inner_text()
        assert boxes.count() == sum(map(int, re.findall(r"■ (\d+) ", legend)))
    visitor.looks(IMPACTS)
    page.set_viewport_size({"width": WIDTHS[0], "height": 900})
    assert axe.Axe().run(page).response["violations"] == []
    page.screenshot(path=photo.with_name(f"{task}-{number}.png"), full_page=True)


def test_an_image_is_chosen_by_keyboard_or_dropped_and_axe_finds_nothing(
    visitor: Newcomer, served: tuple[str, int, Path]
) -> None:
    task, _, photo = served
    page: Any = visitor.page
    # Chromium hands choosers over from the first listener on, but not at once.
    page.on("filechooser", lambda chooser: None)
    visitor.looks(IMPACTS)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.innerText") == "Choose images"
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(photo)
    check_answer(visitor, task, photo, 1)
    content = base64.b64encode(photo.read_bytes()).decode()
    page.evaluate(DROP % f'[["photo.png", "{content}"]]')
    check_answer(visitor, task, photo, 2)
    assert visitor.messages == []
    assert visitor.elsewhere == []

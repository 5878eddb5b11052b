"""The pages as a newcomer uses them: from a folder of images to the class of a new one."""

import os
import re
import subprocess
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from search.journal.result import SearchResult
from tests.support.browser import browser

playwright = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")
pytestmark = [pytest.mark.browser, pytest.mark.slow(90)]
WAIT_MS = 300_000
CLASSES = {"cherry": (200, 30, 40), "lime": (60, 180, 60), "plum": (90, 40, 140)}
SIDE, IMAGES = 48, 60
WIDTHS = (390, 1280)
IMPACTS = ("minor", "moderate", "serious", "critical")
OTHER_TASKS = {
    "detection": (
        *("--space", "detection", "--data", "digit_scenes", "--trials", "2"),
        *("--set", "data.train_limit=40", "--set", "data.val_limit=20", "--set", "epochs=2"),
    ),
    "super_resolution": (
        *("--space", "super_resolution_zoo", "--data", "photographs", "--trials", "2"),
        *("--set", "data.train_limit=10", "--set", "data.val_limit=4"),
    ),
}
"""The options of short searches, with a baseline each."""


def image(number: int, colour: tuple[int, int, int]) -> Image.Image:
    """Return noise of a colour, so strong that a network has something to learn."""
    noise = np.random.default_rng(number).normal(0, 70, (SIDE, SIDE, 3))
    return Image.fromarray(np.clip(noise + colour, 0, 255).astype(np.uint8))


@pytest.fixture
def fruit(tmp_path: Path) -> Path:
    """A folder of images, a folder for each class."""
    folder = tmp_path / "my photos" / "fruit"
    for kind, colour in CLASSES.items():
        (folder / kind).mkdir(parents=True)
        for number in range(IMAGES):
            image(1000 * len(kind) + number, colour).save(folder / kind / f"{number}.png")
    image(7, CLASSES["lime"]).save(tmp_path / "new.png")
    return folder


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """The address that the server shows."""
    process = subprocess.Popen(
        [sys.executable, "-m", "search.ui", "--port", "0", "--no-browser"],
        cwd=tmp_path,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, line
        yield found[0]
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


@dataclass
class Newcomer:
    """Somebody at a browser, who reads every page that comes at two widths."""

    page: Any
    host: str
    messages: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(WAIT_MS)
        self.page.on("console", lambda said: self.messages.append(said.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("request", lambda asked: self._heed(asked.url))

    def _heed(self, url: str) -> None:
        if not url.startswith((f"http://{self.host}/", "data:", "blob:")):
            self.elsewhere.append(url)

    def press(self, name: str) -> None:
        """Press the button or the link that is called so."""
        either = self.page.get_by_role("button", name=name, exact=True)
        self.page.get_by_role("link", name=name, exact=True).or_(either).first.click()

    def reads(self, text: str | re.Pattern[str]) -> None:
        """Wait until the page says something."""
        playwright.expect(self.page.get_by_text(text).first).to_be_visible(timeout=WAIT_MS)

    def finds(self, place: str, pattern: str) -> None:
        """Wait until a part of the page says something."""
        found = self.page.locator(place)
        playwright.expect(found).to_contain_text(re.compile(pattern), timeout=WAIT_MS)

    def looks(self, impacts: Collection[str] = ("serious", "critical")) -> None:
        """Check that the page has no sideways scrolling, and no violations of these impacts."""
        for width in WIDTHS:
            self.page.set_viewport_size({"width": width, "height": 900})
            # Charts follow a new width in a moment; a page that is too wide is wider than that.
            playwright.expect(self.page.locator("html")).to_have_js_property(
                "scrollWidth", width, timeout=WAIT_MS
            )
        for scheme in ("dark", "light"):
            self.page.emulate_media(color_scheme=scheme)
            violations = axe.Axe().run(self.page).response["violations"]
            counted = [rule for rule in violations if rule["impact"] in impacts]
            assert not counted, [(rule["id"], rule["nodes"][0]["html"]) for rule in counted]


@pytest.fixture
def newcomer(address: str) -> Iterator[Newcomer]:
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(
            executable_path=browser(), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        page = chromium.new_page()
        made = Newcomer(page, address.partition("//")[2].partition("/")[0])
        page.goto(address)
        yield made
        chromium.close()


def begins(newcomer: Newcomer, fruit: Path) -> None:
    """Make a search on the folder, and start it."""
    newcomer.press("New search")
    newcomer.looks()
    newcomer.page.get_by_label("Its path").fill(str(fruit))
    newcomer.press("Use this folder")
    newcomer.reads("180 images in 3 classes")
    newcomer.page.get_by_label("table3").check()
    newcomer.page.get_by_label("Trials: networks to train").fill("30")
    newcomer.page.get_by_label("Name").fill("fruit")
    newcomer.reads("takes about")
    newcomer.looks()
    newcomer.press("Start the search")
    newcomer.page.wait_for_url("**/searches/fruit")


def steers(newcomer: Newcomer) -> None:
    """Stop one trial, ask for five more, and stop the search: it is too long to end by itself."""
    page = newcomer.page
    # It stops after its epoch, or ends at once where it waits by now.
    newcomer.reads(re.compile("(stops|ends) after epoch"))
    newcomer.press("Stop this trial")
    end = "(stops|is not training now, so it ends) after epoch"
    newcomer.reads(re.compile(rf"The request was sent: t\d+ {end}"))
    newcomer.reads(re.compile(rf"\(page\) asked to stop (t\d+): \1 {end}"))
    page.get_by_label("Trials: +5 more").fill("+5")
    newcomer.reads("35 trials in total instead of 30")
    newcomer.press("Change it")
    newcomer.reads(re.compile(r"\(page\) asked to extend: trials \+5"))
    newcomer.looks()
    newcomer.press("Stop the search")


def predicts(newcomer: Newcomer, fruit: Path) -> None:
    """Ask the model about the whole folder, where one file is no image; look at its limes."""
    (fruit / "broken.png").write_text("no image")
    newcomer.press("Browse for the folder")
    newcomer.page.get_by_label("Its path").fill(str(fruit))
    newcomer.looks()
    newcomer.press("Predict all its images")
    newcomer.page.wait_for_url("**/predictions/*")
    newcomer.reads("180 images of a folder")
    newcomer.page.get_by_text("Which, and why").click()
    newcomer.reads(re.compile("broken.png: the file is not an image"))
    newcomer.looks()
    newcomer.page.get_by_label("Class", exact=True).select_option("lime")
    newcomer.page.wait_for_url("**state=lime*")
    newcomer.finds("#found tbody", "lime/[0-9]+.png")
    picture = newcomer.page.locator("#found img").first
    picture.scroll_into_view_if_needed()
    playwright.expect(picture).to_have_js_property("naturalWidth", SIDE, timeout=WAIT_MS)
    with newcomer.page.expect_download() as sent:
        newcomer.press("All answers as CSV")
    lines = sent.value.path().read_text().splitlines()
    assert (sent.value.suggested_filename, len(lines)) == ("fruit-1.csv", 181)


@pytest.mark.long
def test_a_newcomer_gets_from_a_folder_of_images_to_the_class_of_a_new_one(
    newcomer: Newcomer, fruit: Path, tmp_path: Path
) -> None:
    page = newcomer.page
    newcomer.looks()
    begins(newcomer, fruit)
    playwright.expect(page.locator("#rows")).to_contain_text(
        re.compile("[1-9] of "), timeout=WAIT_MS
    )
    steers(newcomer)
    newcomer.reads("The verdict")
    newcomer.looks()
    newcomer.press("Promote the model ...")
    newcomer.looks()
    newcomer.press("Promote the model")
    newcomer.press("See the models, and try this one")
    newcomer.looks()
    newcomer.press("fruit")
    newcomer.looks()
    page.get_by_label("Choose images").set_input_files(tmp_path / "new.png")
    newcomer.press("Predict")
    playwright.expect(page.locator("#answers h3")).to_have_text(
        re.compile("^lime, "), timeout=WAIT_MS
    )
    newcomer.looks()
    predicts(newcomer, fruit)
    result = SearchResult.read(tmp_path / "searches" / "fruit")
    assert (result.started.experiment["trials"], result.outcome) == (35, "stopped")
    assert len([trial for trial in result.trials.values() if trial.stop_request is not None]) == 1
    assert newcomer.messages == []
    assert newcomer.elsewhere == []


@pytest.mark.long
@pytest.mark.parametrize("task", OTHER_TASKS)
def test_axe_finds_nothing_on_the_pages_and_the_report_of_another_task(
    task: str, newcomer: Newcomer, tmp_path: Path
) -> None:
    for verb, *options in (("run", *OTHER_TASKS[task], "--name"), ("report",)):
        command = [sys.executable, "-m", f"search.{verb}", *options, task]
        executor = ["--executor", "inline"] if verb == "run" else []
        subprocess.run([*command, *executor], cwd=tmp_path, check=True, capture_output=True)
    report = tmp_path / "searches" / task / "report.html"
    pages = [f"http://{newcomer.host}/searches/{task}{path}" for path in ("", "/trials/t0001")]
    for page in (*pages, report.as_uri()):
        newcomer.page.goto(page)
        newcomer.looks(IMPACTS)
    assert newcomer.page.locator("#quality .strips img").count() > 1
    assert newcomer.messages == []

"""The page *New search*: its form, what it would cost, and the start."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from search.algorithms.registry import ALGORITHMS
from search.operations.run import experiment_of
from search.run import parse_options
from search.schedulers.registry import SCHEDULERS
from search.spaces.find import names, purpose, task_of
from search.values.option import words_of
from search.web.forms.children import Asker, ProcessOutput
from search.web.forms.new_search import FIELDS, NewSearchForm
from search.web.pages import new
from tests.support.asgi import Reply
from tests.support.site import Visitor
from trainables.catalog.datasets import DATASETS
from trainables.errors import ConfigError

HOSTILE = '"><script>alert(1)</script>'


@pytest.fixture
def visitor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Visitor:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "root" / "flowers").mkdir(parents=True)
    return Visitor(tmp_path, tmp_path / "root")


def text(reply: Reply) -> str:
    return reply.content.decode()


@pytest.mark.parametrize("space", names())
def test_every_space_says_what_it_is_for(space: str, visitor: Visitor) -> None:
    assert 20 < len(purpose(space)) < 120
    task = task_of(space)
    data = next(name for name, entry in DATASETS.items() if task in entry.tasks)
    assert purpose(space).split(":")[0].replace("'", "&#39;") in text(
        visitor.see("/new", data=data)
    )


def test_every_algorithm_and_scheduler_is_offered_in_words(visitor: Visitor) -> None:
    assert {"bayes", *new.ALGORITHM_WORDS} - {""} == set(ALGORITHMS)
    page = text(visitor.see("/new", data="digits"))
    for name, scheduler in SCHEDULERS.items():
        assert f"{scheduler.summary} ({name})" in page


def test_a_search_is_started_as_the_form_describes_it(
    visitor: Visitor, started: list[list[str]]
) -> None:
    form = {"data": "digits", "space": "smoke", "name": "mine", "trials": "5", "sealed": "on"}
    reply = visitor.send("/new", {**form, "budget": "10m", "image_size": ""})
    assert (reply.status, reply.headers["location"]) == (303, "/started/1")
    (verb, search, *words) = started[0]
    request = parse_options(words).request
    assert (verb, search) == ("run", "mine")
    assert (request.space, request.data, request.name, request.trials) == (
        "smoke",
        "digits",
        "mine",
        5,
    )
    assert [str(one) for one in request.limits.budget] == ["10m"]
    assert request.sealed
    assert request.storage == visitor.folder / "searches"


def test_folders_of_weights_and_of_more_images_are_passed_on(
    visitor: Visitor, started: list[list[str]]
) -> None:
    flowers = visitor.folder / "root" / "flowers"
    groups = flowers.with_name("groups.csv")
    groups.write_text("image,camera\n")
    places = {"weights": str(flowers), "unlabelled": str(flowers), "groups": str(groups)}
    visitor.send("/new", {"data": "digits", "space": "auto", **places})
    request = parse_options(started[0][2:]).request
    assert (request.weights, request.unlabelled, request.groups) == (flowers, flowers, groups)


def test_without_a_name_a_search_gets_one(visitor: Visitor, started: list[list[str]]) -> None:
    visitor.send("/new", {"data": "digits", "space": "smoke"})
    assert re.fullmatch(r"smoke-digits-\d{8}-\d{6}", started[0][1])
    assert f"--name={started[0][1]}" in started[0]


@pytest.mark.parametrize("field", [name for name in FIELDS if name not in ("data", "space")])
@pytest.mark.parametrize("value", ["--config=/etc/passwd", "-h", "--", "x --dry-run", HOSTILE])
def test_no_value_becomes_an_option(
    field: str, value: str, visitor: Visitor, started: list[list[str]]
) -> None:
    """It is a value of its own option, or refused in a line on the form."""
    reply = visitor.send("/new", {"data": "digits", "space": "smoke", field: value})
    assert HOSTILE not in text(reply)
    if not started:
        assert reply.status == 400
        assert 'role="alert"' in text(reply)
        return
    options = parse_options(started[0][2:])
    assert (options.config, options.dry_run, options.json) == (None, False, False)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("space", "/tmp/evil.py:space", "unknown space"),
        ("space", "../evil", "unknown space"),
        ("data", "folder:/etc", "is not inside"),
        ("weights", "/etc", "is not inside"),
        ("unlabelled", "../..", "is not inside"),
        ("groups", "/etc/passwd", "is not inside"),
        ("data", "folder:../..", "is not inside"),
        ("data", "folder:", "enter the folder"),
        ("data", "folder", "unknown data set"),
        ("data", "joined", "unknown data set"),
        ("data", "digits:x", "unknown data set"),
        ("data", "/etc", "unknown data set &#39;/etc&#39;"),
        ("data", "x" * 4000, "unknown data set"),
        ("name", "../../x", "--name must have 1 to 64 of the characters"),
        ("trials", "many", "invalid int value"),
        ("budget", "1 week", "must have one of these forms: 90s"),
        ("trials", "1" * 5000, "5,000 characters; at most 4,000"),
    ],
)
def test_a_refused_value_is_told_on_the_form(
    field: str, value: str, told: str, visitor: Visitor, started: list[list[str]]
) -> None:
    reply = visitor.send("/new", {"data": "digits", "space": "smoke", field: value})
    assert reply.status == 400
    assert told in text(reply)
    assert started == []


def test_a_name_that_is_taken_is_refused(visitor: Visitor, started: list[list[str]]) -> None:
    taken = visitor.folder / "searches" / "mine"
    taken.mkdir(parents=True)
    (taken / "journal.jsonl").touch()
    reply = visitor.send("/new", {"data": "digits", "space": "smoke", "name": "mine"})
    assert "there is already a search named &#39;mine&#39;" in text(reply)
    assert started == []


def test_the_command_line_can_be_copied(visitor: Visitor) -> None:
    folder = visitor.folder / "root" / "it's a folder"
    folder.mkdir()
    reply = visitor.see("/new/checked", data=f"folder:{folder}", space="table3", trials="7")
    shown = re.search("<pre[^>]*>(.*)</pre>", text(reply))
    assert shown is not None
    words = shlex.split(shown[1].replace("&#39;", "'").replace("&#34;", '"'))
    assert f"--data=folder:{folder}" in words
    assert words[1:3] == ["-m", "search.run"]


def test_a_folder_that_is_not_there_is_told_where_it_was_typed(visitor: Visitor) -> None:
    reply = visitor.see("/new", folder=str(visitor.folder / "root" / HOSTILE))
    assert reply.status == 400
    assert "there is no folder" in text(reply)
    assert "Use this folder" in text(reply)
    assert HOSTILE not in text(reply)
    reply = visitor.see("/new", folder=str(visitor.folder / "root" / "flower"))
    assert "Did you mean &#39;flowers&#39;?" in text(reply)


def test_folders_are_looked_through_and_chosen_by_links(visitor: Visitor) -> None:
    root = visitor.folder / "root"
    (root / HOSTILE.replace("/", "")).mkdir()
    page = text(visitor.see("/new"))
    assert "flowers" in page
    assert "<script>alert" not in page
    assert "What to try on them" in text(visitor.see("/new", folder=str(root / "flowers")))


def test_the_plan_is_told_in_words(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = {"seconds": 60.0, "most_seconds": 180.0, "trials": 4, "expected_epochs": 6}
    lines = ["title", "  images", f"  4 {HOSTILE}", "  note: --space transfer", "  nothing was"]

    async def told(self: Asker, module: str, words: list[str]) -> ProcessOutput:
        assert words[-2:] == ["--dry-run", "--json"]
        return ProcessOutput(0, json.dumps({**plan, "device": "cpu", "slots": 2}), "\n".join(lines))

    monkeypatch.setattr(Asker, "ask", told)
    page = text(visitor.see("/new/plan", part=True, data="digits", space="smoke"))
    assert "60 s to 3 min" in page
    assert "4 &#34;&gt;&lt;script&gt;" in page
    assert "--space transfer" not in page


def test_a_plan_that_is_refused_is_a_part_of_the_page(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def told(self: Asker, module: str, words: list[str]) -> ProcessOutput:
        return ProcessOutput(2, "", "error: nothing fits\n")

    monkeypatch.setattr(Asker, "ask", told)
    reply = visitor.see("/new/plan", part=True, data="digits")
    assert reply.status == 200
    assert "<p>nothing fits</p>" in text(reply)
    assert "<html" not in text(reply)


def test_a_mistake_in_a_child_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^ValueError: no$"):
        ProcessOutput(1, "", "Traceback (most recent call last):\n  File\nValueError: no\n").check()


@pytest.fixture
def masks(visitor: Visitor) -> Path:
    """A folder of images with masks, below the folder that may be named."""
    folder = visitor.folder / "root" / "leaves"
    for number in range(4):
        for name in ("images", "masks"):
            (folder / name).mkdir(parents=True, exist_ok=True)
            pixels = np.full((40, 40), number % 2, np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def test_a_folder_of_masks_gets_the_spaces_metrics_and_sizes_of_its_task(
    visitor: Visitor, masks: Path
) -> None:
    page = text(visitor.see("/new", folder=str(masks)))
    assert re.findall('name="space" value="([^"]*)"( checked)?', page) == [
        ("segmentation", " checked"),
        ("segmentation_zoo", ""),
    ]
    chosen = page.partition('<select id="metric"')[2].partition("</select>")[0]
    assert re.findall('value="([^"]*)"', chosen) == ["", "dice", "pixel_accuracy", "boundary_f1"]
    assert "mean IoU (usual)" in chosen
    assert "Size of the crops in training" in page
    assert "a twelfth of the work" not in page


def test_a_folder_of_masks_is_searched_in_the_space_of_its_task(
    visitor: Visitor, masks: Path, started: list[list[str]]
) -> None:
    assert visitor.send("/new", {"data": f"folder:{masks}"}).status == 303
    assert started[0][1].startswith("segmentation-folder-")
    request = parse_options(started[0][2:]).request
    assert experiment_of(request).base.data.task == "segmentation"


def test_photographs_are_enlarged_in_a_space_that_is_chosen(
    visitor: Visitor, started: list[list[str]]
) -> None:
    """A folder of photographs alone is refused as classes, with a link to this space."""
    folder = visitor.folder / "root" / "flowers"
    for number in range(4):
        Image.fromarray(np.full((40, 40), number, np.uint8)).save(folder / f"{number}.png")
    form = {"data": f"folder:{folder}", "space": "super_resolution"}
    page = text(visitor.see("/new", **form))
    assert 'name="space" value="super_resolution" checked' in page
    assert "PSNR above bicubic (usual)" in page
    words = NewSearchForm(form).look_words(visitor.site)
    assert "--task=super_resolution" in words
    assert visitor.send("/new", form).status == 303
    request = parse_options(started[0][2:]).request
    assert experiment_of(request).base.data.task == "super_resolution"


def test_a_folder_without_classes_leads_to_that_space(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(self: Asker, *words: object) -> ProcessOutput:
        hint = "no class folders. To learn to enlarge these images, use --task super_resolution."
        return ProcessOutput(2, "", f"error: {hint}")

    monkeypatch.setattr(Asker, "ask", refuse)
    folder = visitor.folder / "root" / "flowers"
    page = text(visitor.see("/data/report", part=True, data=f"folder:{folder}"))
    assert "&amp;space=super_resolution" in page


def test_the_robustness_of_classifiers_can_be_measured(
    visitor: Visitor, masks: Path, started: list[list[str]]
) -> None:
    page = text(visitor.see("/new", data="digits", evaluate="corruptions"))
    assert '<option value="corruptions" selected>on corrupted images (corruptions)' in page
    assert 'id="evaluate"' not in text(visitor.see("/new", folder=str(masks)))
    assert visitor.send("/new", {"data": "digits", "evaluate": "adversarial"}).status == 303
    request = parse_options(started[0][2:]).request
    assert experiment_of(request).evaluate == ("adversarial",)


def test_the_metrics_of_classes_are_those_of_classification(visitor: Visitor) -> None:
    page = text(visitor.see("/new", data="digits"))
    assert "accuracy (usual)" in page
    assert "mean IoU" not in page
    assert 'value="segmentation"' not in page


def test_a_space_for_another_task_is_refused_with_the_right_one(
    visitor: Visitor, masks: Path
) -> None:
    words = words_of(
        NewSearchForm({"data": f"folder:{masks}", "space": "table3"}).request(visitor.site)
    )
    with pytest.raises(
        ConfigError, match=r"--space table3 cannot be used for segmentation.*spaces: segmentation"
    ):
        experiment_of(parse_options(words).request)

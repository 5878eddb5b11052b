"""Settings that did well in earlier searches, and that a new one tries early."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from search.design.experiment import Experiment, base_of
from search.design.lesson import Lesson, lesson_of, lessons_in
from search.journal.journal import FILE_NAME, read
from search.journal.result import SearchResult
from search.preflight import lessons, portfolio
from search.preflight.adapting import complete
from search.preflight.lessons import chosen_lessons, nearest_value, params_of, with_lessons
from search.preflight.portfolio import (
    DataTraits,
    Example,
    examples_in,
    examples_of,
    shipped_examples,
)
from search.space import Choice, Float
from search.spaces.find import find
from search.views.page.sections import lesson_lines
from tests.search.preflight.test_first_step import of, photographs
from tests.support.played import changed
from tests.support.stories import story_lines
from trainables.catalog.models import MODELS
from trainables.config import TrialConfig
from trainables.values import Json

TRAITS = DataTraits(1000, 32, 3, 10, "own")
TUNED = {
    "model.name": "squeezenet1_0",
    "model.input_size": 128,
    "model.freeze": "nothing",
    "model.pretrained": True,
    "optimizer.name": "adamw",
    "optimizer.schedule": "cosine",
    "optimizer.lr": 0.002,
    "epochs": 10,
}


@pytest.fixture
def automatic(experiment: Experiment) -> Experiment:
    """A search of the space auto on a folder."""
    space, base = find("auto"), TrialConfig().override({"data.name": "folder"})
    return changed(
        experiment,
        space=space,
        space_source="auto",
        base=base_of(base, space),
        algorithm="bayes",
        device="cpu",
        executor="inline",
    )


def example(
    score: float = 0.9, traits: DataTraits = TRAITS, data: str = "cells", **changes: Any
) -> Example:
    settings = TUNED | {path.replace("__", "."): value for path, value in changes.items()}
    return Example(settings, score, "accuracy", data, traits, "earlier", "t0007")


def test_data_sets_are_compared_by_their_sizes_their_classes_and_their_colours() -> None:
    assert TRAITS.distance(replace(TRAITS, images=9, classes=3)) == 0  # the same fingerprint
    other = replace(TRAITS, fingerprint="other")
    assert TRAITS.distance(other) == 0
    assert TRAITS.distance(replace(other, images=10_000)) == pytest.approx(1)
    assert TRAITS.distance(replace(other, classes=100)) == pytest.approx(1)
    assert TRAITS.distance(replace(other, channels=1)) == pytest.approx(1)
    assert TRAITS.distance(replace(other, side=320, channels=1)) == pytest.approx(2)


@pytest.mark.parametrize(
    ("domain", "value", "nearest"),
    [
        (Choice(64, 96, 128), 96, 96),
        (Choice(64, 96, 128), 224, 128),
        (Choice("a", "b"), "c", None),
        (Choice(True, False), 3, None),
        (Float(1e-4, 1e-2, log=True), 5e-3, 5e-3),
        (Float(1e-4, 1e-2, log=True), 0.5, 1e-2),
        (Float(1e-4, 1e-2, log=True), "fast", None),
    ],
)
def test_a_number_outside_of_its_domain_is_replaced_by_the_nearest_one(
    domain: Any, value: object, nearest: object
) -> None:
    assert nearest_value(domain, value) == nearest


def test_an_example_becomes_a_point_of_the_space(automatic: Experiment) -> None:
    params = params_of(example(model__input_size=300, optimizer__lr=0.5), automatic)
    assert params == {
        "model.name": "squeezenet1_0",
        "model.input_size": 224,
        "epochs": 10,
        "model.pretrained": True,
        "model.freeze": "nothing",
        "optimizer.lr": 0.01,
    }
    replace(automatic.space, first=(params,))  # it is valid


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer__name": "sgd"},
        {"optimizer__schedule": "constant"},
        {"model__name": "alexnet"},
        {"model__freeze": "everything"},
        {"model__pretrained": False},
        {"optimizer__lr": 10**400},
    ],
)
def test_an_example_that_the_space_does_not_contain_is_left_out(
    automatic: Experiment, changes: dict[str, str]
) -> None:
    assert params_of(example(**changes), automatic) is None


def test_the_best_of_each_data_set_come_first_and_among_them_the_most_similar(
    automatic: Experiment,
) -> None:
    far = replace(TRAITS, images=100_000, fingerprint="far")
    examples = [
        example(0.7, far, "cats", optimizer__lr=0.003),
        example(0.8, optimizer__lr=0.004),
        example(0.9, optimizer__lr=0.005),
        example(0.6, optimizer__lr=0.006),
        example(0.9, optimizer__lr=0.005),
    ]
    chosen = chosen_lessons(automatic, TRAITS, examples)
    assert [lesson.params["optimizer.lr"] for lesson in chosen] == [0.005, 0.003, 0.004, 0.006]


def test_settings_that_the_space_tries_first_anyway_are_no_lesson(automatic: Experiment) -> None:
    (probe, *_) = (
        point for point in automatic.space.first if point["model.name"] == "probe_squeezenet1_0"
    )
    (tuned, *_) = (
        point for point in automatic.space.first if point["model.name"] == "squeezenet1_0"
    )
    for point in (probe, TUNED | tuned):
        known = Example(point, 0.9, "accuracy", "cells", TRAITS)
        assert chosen_lessons(automatic, TRAITS, [known]) == []


def test_lessons_follow_the_quick_fits_and_are_in_the_journal(
    automatic: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lessons, "shipped_examples", lambda: [replace(example(), search="")])
    taught, notes = with_lessons(automatic, of(photographs(20, side=32)))
    (lesson,) = taught.lessons
    before = [point["model.name"] for point in automatic.space.first]
    fits = [name for name in before if MODELS[name].kind == "baseline"]
    names = [point["model.name"] for point in taught.space.first]
    assert names == [*fits, "squeezenet1_0", *before[len(fits) :]]
    assert notes == [
        "note: settings that did well before are tried early: 1 of searches whose results come "
        "with this program (on cells). --no-learn leaves them out."
    ]
    again = Experiment.from_description(
        taught.name, taught.describe() | {"stop_at_chance": 0}, taught.storage
    )
    assert again.lessons == (lesson,)
    assert lesson_of({**lesson.params, "batch_size": 16}, again.lessons) == lesson
    assert lesson_of({**lesson.params, "optimizer.lr": 0.1}, again.lessons) is None


def test_the_examples_that_come_with_the_program_can_be_used(automatic: Experiment) -> None:
    shipped = shipped_examples()
    assert len({each.data for each in shipped}) >= 8
    usable = [params for each in shipped if (params := params_of(each, automatic)) is not None]
    assert len(usable) >= len(shipped) / 2
    assert [Example.from_json(each.to_json()) for each in shipped] == shipped


def test_the_best_trial_of_each_model_is_an_example() -> None:
    result = SearchResult.read(Path("tests/fixtures/search-v1"))
    (best,) = examples_of(result)
    assert (best.search, best.trial, best.data, best.metric) == (
        *("v1", "t0001", "digits", "accuracy"),
    )
    assert best.traits == DataTraits(300, 8, 1, 10, "e602d0f97e19e481")
    assert best.score == max(
        each["val/accuracy"] for each in result.trials["t0001"].epochs.values()
    )
    assert best.settings["model.name"] == "deep_cnn"
    assert best.settings["optimizer.lr"] == result.trials["t0001"].params["optimizer.lr"]
    assert not [path for path in best.settings if path.startswith(("data.", "seed"))]


def test_a_search_that_only_guesses_teaches_nothing() -> None:
    result = SearchResult.read(Path("tests/fixtures/search-v1"))
    classes, images = result.started.data["classes"], result.started.data["val"]
    values = {"accuracy": 0.6}
    result.started.data["guesses"] = [{"says": "always '1'", "val": values, "test": values}]
    assert (len(classes), images) == (10, 359)
    assert list(examples_of(result)) == []


BROKEN: list[Callable[[Json], object]] = [
    lambda data: data.pop("image"),
    lambda data: data.pop("name"),
    lambda data: data.update(train=0),
    lambda data: data.update(train="many"),
    lambda data: data.update(fingerprint=["a"], image=[1]),
    lambda data: data.update(guesses=[{}]),
    lambda data: data.update(classes=7),
]


@pytest.mark.parametrize("damage", BROKEN)
def test_a_journal_that_is_not_what_is_expected_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Json], object]
) -> None:
    for name in ("good", "bad"):
        shutil.copytree("tests/fixtures/search-v1", tmp_path / name)
    read = SearchResult.read

    def damaged(folder: Path) -> SearchResult:
        result = read(folder)
        if folder.name == "bad":
            damage(result.started.data)
        return result

    monkeypatch.setattr(SearchResult, "read", damaged)
    assert [each.search for each in examples_in(tmp_path, "classification")] == ["good"]


def test_journals_that_cannot_be_read_do_not_hide_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("own", "good", "other"):
        shutil.copytree("tests/fixtures/search-v1", tmp_path / name)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / FILE_NAME).write_text("{")
    searches = {each.search for each in examples_in(tmp_path, "classification", own="own")}
    assert searches == {"good", "other"}, "as they are called now, not as in their journals"
    monkeypatch.setattr(portfolio, "MAX_BYTES", 10)
    assert examples_in(tmp_path, "classification") == []
    monkeypatch.setattr(portfolio, "MAX_BYTES", 10**9)
    monkeypatch.setattr(portfolio, "MAX_S", -1.0)
    assert examples_in(tmp_path, "classification") == []
    assert examples_in(tmp_path, "segmentation") == []
    assert examples_in(tmp_path / "nothing", "classification") == []


@pytest.mark.parametrize(
    "values", [5, [5], [{}], [{"params": [1], "data": "a"}], [{"params": {}, "data": 1}]]
)
def test_damaged_lessons_are_left_out(values: object) -> None:
    assert lessons_in({"lessons": values}) == []


def test_lessons_of_later_versions_can_be_read() -> None:
    lesson = Lesson({}, "flowers", "first", "t0001")
    assert lessons_in({"lessons": [lesson.to_json() | {"later": 1}]}) == [lesson]


def test_without_learning_only_the_notes_of_the_space_are_there(automatic: Experiment) -> None:
    dataset = of(photographs(20, side=32))
    _, notes = complete(changed(automatic, learn=False), dataset)
    assert [note.partition(" tries ")[0] for note in notes] == ["note: nine"]
    other = changed(automatic, space_source="table3")
    assert complete(other, dataset) == (other, [])


def test_the_report_and_the_story_name_the_lesson() -> None:
    result = SearchResult.read(Path("tests/fixtures/search-v1"))
    lesson = Lesson(result.trials["t0001"].params, "flowers", "first", "t0009")
    result.started.experiment["lessons"] = [lesson.to_json()]
    (line,) = lesson_lines(result)
    assert line.startswith("t0009 of the search first (flowers): t0001 tried its settings, ")
    assert line.endswith(f"place 1 of {len(result.ranking)}")
    events = read(Path("tests/fixtures/search-v1") / FILE_NAME)
    events[0].data.experiment["lessons"] = [lesson.to_json()]  # type: ignore[attr-defined]
    told = [line for line in story_lines(events, "t0001") if "tried early" in line]
    assert len(told) == 1
    assert told[0].endswith("did well before: t0009 of the search first (flowers)")


def test_a_lesson_names_its_origin() -> None:
    assert Lesson({}, "folder cells", "s", "t0001").origin == (
        "t0001 of the search s (folder cells)"
    )

"""Warnings and notes before a search begins."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from search.design.budget import Budget, limit
from search.design.experiment import Experiment, base_of
from search.journal.journal import FILE_NAME
from search.preflight.disk import DiskEstimate
from search.preflight.warnings import notes
from search.space import Choice, SearchSpace
from search.spaces.find import find
from tests.support.played import changed
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset, LeftOut, Part
from trainables.datasets.load import load


def part(first: int, count: int) -> Part:
    """Images that differ in their number."""
    numbers = np.arange(first, first + count)
    return Part(
        np.stack([numbers % 256, numbers // 256], axis=1).astype(np.uint8).reshape(count, 1, 2, 1),
        numbers % 2,
    )


def of_size(side: int) -> Dataset:
    """Three parts of images of so many pixels a side, no two alike."""
    parts = [
        Part(
            np.random.default_rng(seed).integers(0, 256, (4, side, side, 3), dtype=np.uint8),
            np.arange(4) % 2,
        )
        for seed in range(3)
    ]
    return Dataset("made", ("a", "b"), *parts, "f00d")


@pytest.fixture
def dataset() -> Dataset:
    """128 training images, two batches of 64, and others in each part."""
    return Dataset("made", ("a", "b"), part(0, 128), part(1000, 20), part(2000, 20), "f00d")


def test_there_is_nothing_to_say_of_good_data(experiment: Experiment, dataset: Dataset) -> None:
    assert list(notes(experiment, dataset)) == []


def test_it_is_told_where_nothing_of_earlier_searches_is_used(
    experiment: Experiment, dataset: Dataset
) -> None:
    assert list(notes(replace(experiment, address="auto"), dataset)) == [], "there are none"
    (experiment.storage / "earlier").mkdir(parents=True)
    (experiment.storage / "earlier" / FILE_NAME).touch()
    assert list(notes(replace(experiment, address="auto"), dataset)) == [
        "note: a search on a cluster does not reuse trainings of earlier searches."
    ]
    assert list(notes(replace(experiment, address="auto", cache=False), dataset)) == []
    space = find("transfer")
    begins = replace(
        experiment,
        algorithm="random",
        space_name="transfer",
        space=space,
        base=base_of(TrialConfig(), space),
    )
    assert (
        "note: trials with pretrained weights do not reuse trainings of earlier searches."
        in list(notes(begins, of_size(128)))
    )


def test_what_means_nothing_with_folds_is_told(experiment: Experiment, dataset: Dataset) -> None:
    idle = {"data.folds": 3, "data.val_fraction": 0.3}
    (said,) = notes(changed(experiment, base=experiment.base.override(idle)), dataset)
    assert said == (
        "note: with folds there is no separate validation set, so data.val_fraction can be removed."
    )
    assert (
        list(
            notes(
                changed(experiment, base=experiment.base.override({"data.val_fraction": 0.3})),
                dataset,
            )
        )
        == []
    )


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (1, "1 image cannot be read and is left out (first: dog/z.png)"),
        (1200, "1,200 images cannot be read and are left out (first: dog/z.png)"),
    ],
)
def test_images_that_were_left_out_are_counted(
    experiment: Experiment, dataset: Dataset, count: int, text: str
) -> None:
    others = LeftOut("cat/notes.txt", "not a supported image format")
    bad = LeftOut("dog/z.png", "cannot be read: the file is not an image")
    data = replace(dataset, skipped=count, left_out=(others, bad))
    assert list(notes(experiment, data)) == [f"warning: {text}."]


def test_a_storage_that_is_nearly_too_small_is_told(
    experiment: Experiment, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "search.preflight.warnings.room",
        lambda *_: DiskEstimate(10**9, 4 * 10**9, 6 * 10**9, Path("here")),
    )
    (said,) = notes(experiment, dataset)
    assert (
        said == "warning: the checkpoints need about 1.0 GB to 4.0 GB, and storage 'here' has "
        "6.0 GB free. Use another --storage, or fewer --trials."
    )
    monkeypatch.setattr(
        "search.preflight.warnings.room",
        lambda *_: DiskEstimate(10**9, 4 * 10**9, 8 * 10**9, Path("here")),
    )
    assert list(notes(experiment, dataset)) == []


def test_too_few_trials_for_what_a_space_begins_with_are_told(experiment: Experiment) -> None:
    zoo = changed(experiment, space=find("zoo"), algorithm="bayes", trials=3)
    told = list(notes(zoo, of_size(80)))
    assert (
        "note: this space starts with 16 fixed points, and 13 of them are not tried in 3 trials. "
        "--trials 16 tries each once." in told
    )
    assert not any("starts with" in line for line in notes(changed(zoo, trials=16), of_size(80)))


def test_images_that_become_much_larger_are_told(experiment: Experiment) -> None:
    space = find("transfer")
    transfer = changed(
        experiment, space=space, base=base_of(TrialConfig(), space), algorithm="bayes", trials=3
    )
    line = (
        "note: images of 32 x 32 pixels are enlarged to 224 x 224, as the pretrained weights "
        "require. --set model.input_size=64 is faster."
    )
    assert line in list(notes(transfer, of_size(32)))
    small = space.fixed({"model.input_size": 64})
    assert line not in list(
        notes(changed(transfer, space=small, base=base_of(TrialConfig(), small)), of_size(32))
    )


def test_a_threshold_that_comes_too_late_to_matter_is_told(
    experiment: Experiment, dataset: Dataset
) -> None:
    assert list(notes(changed(experiment, min_gain=0.1), dataset)) == [
        "note: --min-gain has no effect before 20 trials have ended, and only 9 are planned."
    ]


def test_a_price_that_limits_nothing_is_told(experiment: Experiment, dataset: Dataset) -> None:
    hour = limit("1h")
    assert list(notes(changed(experiment, budget=Budget((hour,), 1.2)), dataset)) == [
        "note: --price 1.2 does not limit the search, because no --budget is in usd; only the plan "
        "(--dry-run) uses it."
    ]
    assert not list(notes(changed(experiment, budget=Budget((hour, limit("3usd")), 1.2)), dataset))


def test_more_trials_than_the_space_has_points_are_told(
    experiment: Experiment, dataset: Dataset
) -> None:
    assert list(notes(changed(experiment, trials=1000), dataset)) == [
        "note: --trials 1000 is too many: the space has 9 points, and each is tried once. The "
        "search has 9 trials in total."
    ]
    assert list(notes(changed(experiment, trials=9), dataset)) == []
    assert list(notes(changed(experiment, trials=None), dataset)) == []


def with_labels(dataset: Dataset, labels: list[int], classes: tuple[str, ...]) -> Dataset:
    """The same images, of which the training part has these labels in turn."""
    count = len(dataset.train)
    made = np.array((labels * count)[:count])
    return replace(dataset, classes=classes, train=replace(dataset.train, targets=made))


OFFERED = (
    "With --set train.class_weights=balanced or train.sampling=balanced, all classes count "
    "equally in training (your own space may search these settings)."
)


@pytest.mark.parametrize(
    ("labels", "classes", "share"),
    [
        ([0] * 3 + [1], ("dog", "cat"), ("75 %", "0.75")),
        ([0, 1, 1] * 42 + [1, 1], ("cat", "dog"), ("67.2 %", "0.672")),
        ([0] + [1] * 127, ("cat", "dog"), ("99.2 %", "0.992")),
        ([0] * 3 + [1, 2, 3, 4, 0, 0, 0], ("dog", *"abcd"), ("59.4 %", "0.594")),
        ([3, 3, 3, *range(10)], (*"abc", "dog", *"efghij"), ("31.2 %", "0.312")),
        ([0, 1], ("dog", "cat"), None),
        ([0] * 4 + [1] * 3, ("dog", "cat"), None),
        ([3, *range(10)], tuple("abcdefghij"), None),
        ([0, 0, 1, 2], ("dog", "cat", "cow"), None),
    ],
)
def test_data_on_which_accuracy_tells_little_are_told(
    experiment: Experiment,
    dataset: Dataset,
    labels: list[int],
    classes: tuple[str, ...],
    share: tuple[str, str] | None,
) -> None:
    unbalanced = with_labels(dataset, labels, classes)
    expected = [
        f"note: {share[0]} of the training images are of class 'dog', so always predicting it "
        f"reaches an accuracy of {share[1]}. With --metric balanced_accuracy or macro_f1, all "
        f"classes count equally in the ranking of trials. {OFFERED}"
        for share in (share,)
        if share is not None
    ]
    assert list(notes(experiment, unbalanced)) == expected
    by_another = changed(
        experiment, base=experiment.base.override({"metric": "auc"}), objectives=()
    )
    assert [line[line.index("'dog'") :] for line in notes(by_another, unbalanced)] == [
        f"'dog'. {OFFERED}" for _ in expected
    ]
    weighted = by_another.base.override({"train.class_weights": "sqrt"})
    assert list(notes(changed(by_another, base=weighted), unbalanced)) == []


def test_a_class_in_a_note_has_no_control_characters(
    experiment: Experiment, dataset: Dataset
) -> None:
    (said,) = notes(experiment, with_labels(dataset, [0, 0, 0, 1], ("\x1b[2J", "b")))
    assert r"of class '\x1b[2J'," in said


def test_of_built_in_digits_there_is_nothing_to_say(experiment: Experiment) -> None:
    assert list(notes(experiment, load(experiment.base.data))) == []


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        (
            {"train.class_weights": "balanced"},
            ["train.class_weights has no effect on knn, which cannot weight"],
        ),
        ({"train.sampling": "balanced"}, ["train.sampling applies only to networks"]),
        ({"train.ema": 0.9}, ["train.ema applies only to networks; it has no effect on knn"]),
        ({}, []),
    ],
)
def test_baselines_that_cannot_follow_a_balance_are_named(
    experiment: Experiment, dataset: Dataset, setting: dict[str, str], told: list[str]
) -> None:
    space = SearchSpace({"model.name": Choice("svm", "knn")})
    baselines = changed(
        experiment, space=space, base=TrialConfig().override(setting), algorithm="random"
    )
    said = [line for line in notes(baselines, dataset) if "classes" in line or "train." in line]
    assert len(said) == len(told)
    assert all(text in line for text, line in zip(told, said, strict=True))


def test_a_fit_that_may_exceed_the_budget_is_told(experiment: Experiment, dataset: Dataset) -> None:
    baselines = changed(
        experiment,
        space=SearchSpace({"model.name": Choice("svm", "deep_cnn")}),
        base=TrialConfig(),
        algorithm="random",
    )
    for budget, is_told in ((Budget((limit("1m"),)), True), (Budget((limit("9epochs"),)), False)):
        said = "\n".join(notes(replace(baselines, budget=budget), dataset))
        assert ("because the fit of a baseline (svm) is not interrupted" in said) is is_told
    adapted = replace(baselines, budget=Budget((limit("1m"),)), space_source="auto")
    assert "not interrupted" not in "\n".join(notes(adapted, dataset)), "its time was considered"

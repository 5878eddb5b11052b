"""Promises about answers: their options, what allows them, and what a model does with them."""

import json

import numpy as np
import pytest

from trainables.config import TrialConfig
from trainables.errors import ConfigError
from trainables.export.export import export
from trainables.predictors.base import UNCERTAIN, Judgement, judgement_columns
from trainables.reliability.promises import NO_PROMISES, Promises, check_promises, fraction
from trainables.reliability.settling import settle_promises
from trainables.tasks.classification.model import Classifier

SEGMENTATION = {"data.name": "scenes", "data.task": "segmentation", "model.name": "unet"}


@pytest.mark.parametrize(("text", "value"), [("1%", 0.01), ("0.05", 0.05), (" 2.5 %", 0.025)])
def test_a_share_is_read(text: str, value: float) -> None:
    assert fraction(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["0", "1", "100%", "-1%", "x", "", "1%%", "nan", "5% of all"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="above 0 and below 1"):
        fraction(text)


@pytest.mark.parametrize(
    ("promises", "values", "test_images", "message"),
    [
        (Promises(max_error=0.1), {}, 0, "--max-error needs test images"),
        (Promises(coverage=0.9), {}, 0, "--coverage needs test images"),
        (Promises(by_class=True), {}, 9, "--by-class needs --coverage"),
        (Promises(false_alarms=0.05), {"model.name": "svm"}, 9, "no network"),
        (Promises(false_alarms=0.05), {"data.folds": 3}, 9, "with folds"),
        (Promises(false_alarms=0.01), {}, 9, "at least 99 validation images"),
        (Promises(max_error=0.1), SEGMENTATION, 9, "--max-error cannot be used"),
    ],
)
def test_what_cannot_be_promised_is_refused_in_one_line(
    promises: Promises, values: dict[str, object], test_images: int, message: str
) -> None:
    config = TrialConfig().override(values)
    with pytest.raises(ConfigError, match=message) as refused:
        check_promises(promises, config, 50, test_images)
    assert "\n" not in str(refused.value)


def test_nothing_is_needed_for_no_promises() -> None:
    check_promises(NO_PROMISES, TrialConfig().override(SEGMENTATION), 0, 0)
    assert NO_PROMISES.options == []


def test_images_that_are_reported_as_unlike_do_not_count_for_errors() -> None:
    """They are not answered, so that wrong answers on them would be counted in vain."""
    chances = np.tile([0.9, 0.1], (400, 1))
    labels = np.r_[np.ones(100, int), np.zeros(300, int)]
    is_unlike = labels == 1
    values, facts = settle_promises(Promises(max_error=0.05), chances, is_unlike, labels)
    assert values["least_probability"] <= 0.9
    assert (facts["max_error"]["answered"], facts["max_error"]["wrong"]) == (300, 0)
    with pytest.raises(ConfigError, match="cannot be promised with 400 test images"):
        settle_promises(Promises(max_error=0.05), chances, ~is_unlike & False, labels)


def test_a_model_abstains_below_its_threshold(trained_checkpoint, tmp_path) -> None:
    config, dataset, path = trained_checkpoint("mnist_cnn", epochs=6, train=120, val=60, test=240)
    made = export(
        config, dataset, path, tmp_path / "made", promises=Promises(max_error=0.2, coverage=0.9)
    )
    about = json.loads((made.folder / "about.json").read_text())
    least = about["promises"]["least_probability"]
    model = Classifier(made.folder, "made")
    images = list(np.asarray(dataset.test.images))
    chances, judgements = model.judged(images)
    assert judgements is not None
    expected = np.where(chances.max(axis=1) < least, UNCERTAIN, "")
    assert [own.reason for own in judgements] == expected.tolist()
    answered = expected == ""
    wrong = chances.argmax(axis=1) != dataset.test.targets
    facts = made.reliability["max_error"]
    assert (facts["answered"], facts["wrong"]) == (answered.sum(), wrong[answered].sum())
    covered = [
        dataset.classes[label] in own.labels
        for own, label in zip(judgements, dataset.test.targets, strict=True)
    ]
    assert np.mean(covered) >= 0.9
    typed = model.judge(images)
    assert [own.reason for own in typed] == expected.tolist()
    assert [own.abstained for own in typed] == (expected != "").tolist()
    assert [own.label for own in typed] == model.predict(images)
    assert [own.answer for own in typed] == ["" if own.abstained else own.label for own in typed]
    assert [own.set for own in typed] == [own.labels for own in judgements]
    assert typed[0].probability == pytest.approx(chances[0].max())
    for form in (np.stack(images[:2]), iter(images[:2])):
        assert [own.answer for own in model.judge(form)] == [own.answer for own in typed[:2]]
    assert model.judge([]) == []
    with pytest.raises(ConfigError, match="images must be"):
        model.judge(7)
    rows = model.rows(images[:3])
    assert [set(row) >= {"answer", "abstained", "reason", "set"} for row in rows] == [True] * 3


def test_without_promises_nothing_is_judged(trained_checkpoint, tmp_path) -> None:
    config, dataset, path = trained_checkpoint("mnist_cnn")
    made = export(config, dataset, path, tmp_path / "made")
    model = Classifier(made.folder, "made")
    assert model.judged(list(dataset.val.images))[1] is None
    assert set(model.rows(list(dataset.val.images))[0]) == {"class", "probability", "margin"}
    (answer,) = model.judge(np.asarray(dataset.val.images)[0])
    assert (answer.answer, answer.abstained, answer.reason, answer.set) == (
        answer.label,
        False,
        "",
        None,
    )
    assert made.reliability.keys() == {"calibration"}
    assert made.reliability["calibration"]["part"] == "test"


def test_columns_of_judgements() -> None:
    columns = judgement_columns(["cat", "dog"], [Judgement("", ["cat"]), Judgement("unlike", [])])
    assert columns == {
        "answer": ["cat", ""],
        "abstained": [False, True],
        "reason": ["", "unlike"],
        "set": ['["cat"]', "[]"],
    }
    assert "set" not in judgement_columns(["cat"], [Judgement("", None)])


def test_promises_are_words_and_plain_values() -> None:
    promises = Promises(max_error=0.015, coverage=0.95, by_class=True, false_alarms=0.05)
    assert promises.set_on_test_images == ["--max-error 1.5%", "--coverage 95% --by-class"]
    assert promises.to_json() == {
        "max_error": 0.015,
        "coverage": 0.95,
        "by_class": True,
        "false_alarms": 0.05,
    }
    assert (Promises(false_alarms=0.1).set_on_test_images, NO_PROMISES.to_json()) == ([], {})

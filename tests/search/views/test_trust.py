"""The section of the report about how far a registered model can be trusted."""

from dataclasses import replace
from typing import Any

import numpy as np

from search.design.experiment import Experiment
from search.facts.summary import registration_facts
from search.journal.events import Opened, Registration
from search.journal.journal import Event
from search.journal.result import SearchResult
from search.tracking.runs import registration_figures
from search.views.page.page import render
from search.views.text.reliability import bin_rows, kind_rows, promise_rows
from tests.search.views.test_page import played
from tests.support.reports import SCRIPT, words
from trainables.reliability.promises import Promises
from trainables.reliability.settling import calibration_facts, settle_promises
from trainables.values import Json

UNLIKE: Json = {
    "method": "energy",
    "limit": 12.5,
    "false_alarms": 0.05,
    "images": 200,
    "alarms": 9,
    "of_images": 400,
    "part": "test",
    "kinds": {"noise": {"detected": 0.75, "auc": 0.875, "auc_probability": 0.5}},
}


def facts() -> Json:
    """Compute the facts about a model that is right in nine of ten images, and sure of them."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 400)
    sure = np.where(generator.random(400) < 0.9, 0.99, 0.6)
    right = np.where(sure > 0.9, generator.random(400) < 0.99, generator.random(400) < 0.5)
    chances = np.empty((400, 2))
    guess = np.where(right, labels, 1 - labels)
    chances[np.arange(400), guess] = sure
    chances[np.arange(400), 1 - guess] = 1 - sure
    promises = Promises(max_error=0.05, coverage=0.9)
    _, settled = settle_promises(promises, chances, np.zeros(400, bool), labels)
    calibration = {**calibration_facts(chances, 0.5, labels), "part": "test"}
    return {"calibration": calibration, **settled, "unlike": UNLIKE}


def registered(result: SearchResult, event: Registration, promises: list[str]) -> None:
    """Apply the events of a promotion."""
    opened = Opened(event.trial, 1, "search.promote", promises)
    result.apply(Event(9_998, 1_800_000_000_000, opened))
    result.apply(Event(9_999, 1_800_000_001_000, event))


def test_the_report_shows_promises_thresholds_and_both_diagrams(experiment: Experiment) -> None:
    result, own = played(experiment, 12), facts()
    assert "How far its probabilities" not in render(result, pictures={})
    assert registration_facts(result) == {}
    assert result.best is not None
    event = Registration(result.best.trial, SCRIPT, "3", {"max_error": 0.05}, own)
    before = result.wall_s
    registered(result, event, ["--max-error 5%"])
    assert result.wall_s == before, "a promotion may follow long after the search"
    page = render(result, pictures={})
    text = words(page)
    assert "<script>alert" not in page
    share = own["max_error"]["answered"] / 400
    for sentence in (
        f"It answers {100 * share:.3g} % of 400 test images",
        f"a probability of at least {own['max_error']['threshold']:.4g}",
        "It reports 9 of 400 test images",
        "by search.promote --max-error 5% for",
        "before and after the temperature of 0.5",
    ):
        assert sentence in text, sentence
    assert page.count('alt="Reliability diagram as') == 2
    assert "Thresholds were chosen on these test images" not in page
    (row,) = registration_facts(result)["registered"]
    assert (row["version"], row["reliability"]) == ("3", own)
    registered(result, replace(event, version="4"), ["--max-error 4%"])
    assert "Thresholds were chosen on these test images 2 times" in words(
        render(result, pictures={})
    )


def test_the_tables_have_the_values_of_the_pictures() -> None:
    own = facts()
    rows = bin_rows(own["calibration"])
    counts = [(int(row[1]), int(row[4])) for row in rows]
    assert [sum(column) for column in zip(*counts, strict=True)] == [400, 400]
    assert kind_rows(own) == [("noise", "75 %", "0.875", "0.500")]
    assert [row[1] for row in promise_rows(own)][-1] == "a score ('energy') of at most 12.5"
    assert len(promise_rows(own)) == 3
    assert promise_rows({}) == []
    assert kind_rows({}) == []


def test_limits_by_class_are_a_range_and_may_all_be_missing() -> None:
    own: dict[str, Any] = facts()["coverage"]
    texts = [
        promise_rows({"coverage": {**own, "limits": limits}})[0][1]
        for limits in ([0.2, 0.2], [0.3, 0.05], [])
    ]
    assert texts == [
        "a probability of at least 0.2",
        "a probability of at least 0.05 to 0.3, by class",
        "no limit: too few images of each class",
    ]


def test_mlflow_gets_the_figures() -> None:
    own = facts()
    figures = registration_figures(Registration("t0001", "pets", "3", {}, own))
    after = own["calibration"]["after"]
    assert figures["registered/ece"] == after["ece"]
    assert figures["registered/ece_beyond_chance"] == max(0, after["ece"] - after["bias"])
    assert figures["registered/unlike_alarms"] == 9 / 400
    assert registration_figures(Registration("t0001", "pets", "3")) == {}

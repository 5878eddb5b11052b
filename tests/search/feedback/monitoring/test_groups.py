"""The answers of a served model in groups of images."""

import numpy as np
import pytest

from search.feedback.monitoring.findings import find_changes
from search.feedback.monitoring.groups import answers_of_groups
from search.feedback.monitoring.words import facts
from tests.search.feedback.monitoring.made_up import made_reference
from tests.search.feedback.monitoring.test_findings import window
from trainables.fairness.groups import Attributes

ATTRIBUTES = Attributes(
    ("camera",),
    (("new",), ("old",), ("rare",)),
    {str(row): (0 if row < 120 else 1 if row < 190 else 2) for row in range(195)},
)
"""Images 195 and above belong to no group."""


def test_each_group_has_its_answers_and_its_accuracy() -> None:
    met = window(200, corrected=150)
    new, old, rare = answers_of_groups(met, ATTRIBUTES)
    assert [(group.name, group.images, group.corrected) for group in (new, old, rare)] == [
        ("camera=new", 120, 120),
        ("camera=old", 70, 30),
        ("camera=rare", 5, 0),
    ]
    assert new.accuracy is not None
    assert old.accuracy is not None
    assert new.accuracy.value == pytest.approx(met.right[:120].mean())
    assert old.accuracy.value == pytest.approx(met.right[120:150].mean())
    assert old.accuracy.low < old.accuracy.value < old.accuracy.high
    assert rare.accuracy is None


def test_groups_are_told_and_change_no_test() -> None:
    met = window(200, corrected=150)
    plain, grouped = (find_changes("m", made_reference(), met) for _ in range(2))
    grouped.groups = answers_of_groups(met, ATTRIBUTES)
    rows = dict(facts(grouped))
    assert rows["camera=rare"].startswith("5 images; accuracy not known: 0 of them are corrected")
    assert " on 30 corrected images" in rows["camera=old"]
    assert grouped.checks == plain.checks
    assert len(facts(plain)) == len(rows) - 3
    assert grouped.to_json()["groups"][0]["accuracy"]["value"] == float(np.mean(met.right[:120]))

"""Test the options of verbs as Python values; `tests/search/test_api.py` has their errors."""

from pathlib import Path
from typing import Any

import pytest

from search.cli.keywords import request_from, words
from search.operations.continuation import UsageLimits
from search.operations.data import DataRequest
from search.operations.run_request import Reading, RunRequest
from search.values.option import words_of
from trainables.errors import ConfigError


def test_texts_and_values_give_the_same_request() -> None:
    texts: dict[str, Any] = {
        "space": "smoke",
        "trials": "5",
        "data_root": "there",
        "storage": "kept",
        "set": ["epochs=3"],
        "sealed": True,
        "name": None,
    }
    values = {**texts, "trials": 5, "storage": Path("kept"), "set": {"epochs": 3}}
    request = request_from(RunRequest, values)
    assert request_from(RunRequest, texts) == request
    assert request == RunRequest(
        space="smoke",
        trials=5,
        reading=Reading(data_root=Path("there")),
        storage=Path("kept"),
        settings=("epochs=3",),
        sealed=True,
    )


def test_the_words_of_a_request_are_those_of_its_values() -> None:
    values = {"space": "smoke", "trials": 5, "sealed": True, "budget": ["2h", "9epochs"]}
    request = request_from(RunRequest, values)
    assert isinstance(request.limits, UsageLimits)
    assert sorted(words_of(request)) == [
        "--budget=2h",
        "--budget=9 epochs",
        "--sealed",
        "--space=smoke",
        "--trials=5",
    ]
    assert words(RunRequest, values) == [
        "--space=smoke",
        "--trials=5",
        "--sealed",
        "--budget=2h",
        "--budget=9epochs",
    ]


def test_an_argument_without_a_name_may_begin_with_a_dash() -> None:
    request = request_from(DataRequest, {"data": "--skip-bad", "download": True})
    assert request == DataRequest(data="--skip-bad", reading=Reading(download=True))


def test_a_wrong_value_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^trials: invalid int value: 'many'\.$"):
        request_from(RunRequest, {"space": "smoke", "trials": "many"})

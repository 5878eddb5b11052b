"""Events cross to the disk and back as they are."""

import itertools
import json
import re
import zlib
from pathlib import Path
from typing import Any

import pytest

from search.journal.events import (
    KINDS,
    Change,
    Costed,
    Dropped,
    Ended,
    Epoch,
    Evidence,
    Finalist,
    Refined,
    RefinementTerms,
    Restored,
    Resumed,
    Running,
    Selected,
    Selecting,
    SessionStart,
    Started,
    Stopped,
    Suggested,
    Unknown,
    from_json,
)
from search.journal.journal import DamagedJournal, Event, Journal, read
from search.journal.result import SearchResult, furthest_of_each_training
from search.values.statistics import Expected
from trainables.messages import WarmStart

NESTED = (
    Restored("t1", 3, [], WarmStart("one", "t2", 3)),
    Resumed(refining=RefinementTerms(rounds=2, trials=6)),
    Refined(
        1, {"trials": 12}, 6, 0.5, [Change("batch_size", "edge", "at its edge", is_clear=True)]
    ),
    Selected(
        "t1",
        "t1-s1",
        "t1",
        Expected(mean=0.5, low=0.4, high=0.6, std=0.1, seeds=2),
        0.55,
        [Finalist("t1", "svm", 0.5, 0.5, None, 1, [0.5], None, None, "chosen", "", None)],
        0.05,
        0.95,
    ),
)


@pytest.mark.parametrize("told", NESTED, ids=lambda told: type(told).__name__)
def test_what_an_event_holds_comes_back_as_it_was(told: Restored, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "s")
    assert journal.append(told).data == told
    journal.close()
    assert read(journal.path)[0].data == told


def test_each_event_has_one_kind_under_its_own_name() -> None:
    assert {kind: made.__name__.lower() for kind, made in KINDS.items()} == {
        kind: kind for kind in KINDS
    }


def test_a_field_at_its_default_is_left_out() -> None:
    assert Suggested(trial="t1", params={}, config={}).to_json() == {
        "trial": "t1",
        "params": {},
        "config": {},
    }
    assert Stopped("t1", 3, "asha", "behind", rivals=0).to_json() == {
        "trial": "t1",
        "epoch": 3,
        "by": "asha",
        "reason": "behind",
        "rivals": 0,
    }
    assert Dropped("t1", 2, "failed").to_json().keys() == {"candidate", "seeds", "reason"}
    assert Resumed(changes=[]).to_json() == {"changes": []}
    assert Running("t1", 1).to_json()["host"] == ""


def test_fields_are_written_in_their_order() -> None:
    """Readers of other searches' journals look for the first ones in a line's text."""
    line = Event(1, 0, Suggested(trial="t1", stem="0f" * 8, params={}, config={})).to_line()
    assert '"event": "suggested", "trial": "t1", "stem": "0f0f' in line
    line = Event(1, 0, Epoch("t1", 2, {"val/loss": 0.5}, "bf16")).to_line()
    assert '"event": "epoch", "trial": "t1", "epoch": 2, "metrics": {' in line
    assert list(
        Selecting(candidates=["t1"], seeds=2, alpha=0.05, slots=1, began_ms=1).to_json()
    ) == ["slots", "began_ms", "candidates", "seeds", "alpha"]


def test_what_a_later_version_adds_is_passed_over() -> None:
    told = {"trial": "t1", "outcome": "completed", "reason": "", "mood": "good"}
    assert from_json("ended", told) == Ended("t1", "completed", "")
    unknown = from_json("praised", {"trial": "t1", "by": "me"})
    assert isinstance(unknown, Unknown)
    event = Event(1, 0, unknown)
    assert (event.kind, event.trial) == ("praised", "t1")
    assert json.loads(event.to_line())["by"] == "me"
    result = SearchResult()
    result.apply(Event(1, 0, Started(name="s")))
    result.apply(event)
    assert result.name == "s"


def test_an_event_that_lacks_a_value_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text(Event(1, 0, Unknown("ended", "t1", {"trial": "t1"})).to_line())
    with pytest.raises(DamagedJournal, match=r"journal\.jsonl:1 is damaged \(a value is missing"):
        read(path)


def test_a_later_session_changes_only_what_it_tells() -> None:
    first = Started(name="s", id="1d", data={"val": 5}, slots=1, training="0f")
    later = first.changed_by(SessionStart(slots=2, data={"val": 6}))
    assert later == Started(name="s", id="1d", data={"val": 6}, slots=2, training="0f")


def test_a_file_is_told_of_no_trial_too() -> None:
    assert Event(1, 0, Evidence("", "report.html", "")).trial == ""


@pytest.mark.parametrize(
    ("kind", "values", "says"),
    [
        ("slots", {"count": "two", "reason": ""}, "'count' must be a whole number (got 'two')"),
        ("slots", {"count": True, "reason": ""}, "'count' must be a whole number (got True)"),
        ("slots", {"count": 2, "reason": None}, "'reason' must be a string (got None)"),
        (
            "epoch",
            {"trial": "t1", "epoch": 1, "metrics": []},
            "'metrics' must be an object (got [])",
        ),
        (
            "epoch",
            {"trial": "t1", "epoch": 1, "metrics": {"val/loss": "low"}},
            "'metrics.val/loss' must be a number (got 'low')",
        ),
        ("epoch", {"trial": "t1", "epoch": 1, "metrics": {"val/loss": 1e999}}, "(got inf)"),
        ("epoch", {"trial": "t1", "epoch": 1, "metrics": {"val/loss": 10**400}}, "'metrics.val"),
        (
            "epoch",
            {"trial": "t1", "epoch": 1, "metrics": {}, "folds": [{"val/loss": None}]},
            "'folds.0.val/loss' must be a number (got None)",
        ),
        ("running", {"trial": ["t1"], "attempt": 1}, "'trial' must be a string (got ['t1'])"),
        (
            "resumed",
            {"began_ms": 10**18},
            "'began_ms' must be a Unix time in milliseconds (got 1000000000000000000)",
        ),
        ("resumed", {"began_ms": -1}, "'began_ms' must be a Unix time in milliseconds (got -1)"),
        (
            "resumed",
            {"packing": {"members": None}},
            "'packing.members' must be a whole number (got None)",
        ),
        (
            "resumed",
            {"experiment": {"trials": "many"}},
            "'experiment.trials' must be a whole number (got 'many')",
        ),
        (
            "resumed",
            {"experiment": {"space": {"name": 5}}},
            "'experiment.space.name' must be a string (got 5)",
        ),
        ("resumed", {"data": {"val": "all"}}, "'data.val' must be a whole number (got 'all')"),
        (
            "resumed",
            {"refining": {"rounds": "2", "trials": 6}},
            "'refining.rounds' must be a whole number (got '2')",
        ),
        ("resumed", {"refining": 5}, "'refining' must be an object (got 5)"),
        (
            "suggested",
            {"trial": "t1", "params": {}, "config": {"model": "svm"}},
            "'config.model' must be an object (got 'svm')",
        ),
        (
            "costed",
            {"trial": "t1", "cost": {"inference": 3}},
            "'cost.inference' must be an object (got 3)",
        ),
        ("unevaluated", {"reasons": {"no time": 5}}, "'reasons.no time' must be a list (got 5)"),
        (
            "refined",
            {"round": 1, "experiment": {}, "known": 6, "before": 0.5, "changes": [{"path": 1}]},
            "'changes.0.path' must be a string (got 1)",
        ),
    ],
)
def test_a_value_of_another_kind_is_damage(
    kind: str, values: dict[str, Any], says: str, tmp_path: Path
) -> None:
    path = tmp_path / "journal.jsonl"
    line = json.dumps({"n": 1, "time_ms": 1, "event": kind, **values})[:-1]
    path.write_text(f'{line}, "crc": "{zlib.crc32(line.encode()):08x}"}}\n')
    with pytest.raises(DamagedJournal, match=re.escape(says)):
        read(path)


@pytest.mark.parametrize("time_ms", [10**18, -1, "now", None, 1.5, True])
def test_a_time_out_of_range_is_damage(time_ms: Any, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    line = json.dumps({"n": 1, "time_ms": time_ms, "event": "slots", "count": 1, "reason": ""})
    path.write_text(f'{line[:-1]}, "crc": "{zlib.crc32(line[:-1].encode()):08x}"}}\n')
    with pytest.raises(
        DamagedJournal, match=r"'time_ms' must be a Unix time in milliseconds \(got .*\)"
    ):
        read(path)


def test_configs_share_the_parts_that_are_written_alike() -> None:
    def suggested(number: int, trial: str, **config: Any) -> Event:
        return Event(number, 1, Suggested(trial=trial, params={}, config=config))

    data = {"name": "digits", "folds": None, "skip_bad": False}
    configs: list[dict[str, Any]] = [
        {"data": data, "augment": {"crop": 0, "flip": False}, "epochs": 3},
        {"data": {**data}, "augment": {"crop": 0.0, "flip": False}, "epochs": 3},
        {"data": {**data, "folds": 2}, "augment": {"crop": 0.0, "flip": 0}, "epochs": 3},
    ]
    written = json.dumps(configs)
    result = SearchResult()
    for number, config in enumerate(configs, 1):
        result.apply(suggested(number, f"t{number}", **config))
    kept = [trial.config for trial in result.trials.values()]
    assert json.dumps(kept) == written
    assert kept[1]["data"] is kept[0]["data"]


def test_no_ranking_is_older_than_the_last_event() -> None:
    loss = {"val/loss": 0.5, "time/epoch_s": 1.0}

    def cost(latency: float) -> dict[str, Any]:
        return {"inference": {"batch_1": {"median_ms": latency}}}

    config: dict[str, Any] = {"model": {"name": "cnn"}}
    experiment = {"objectives": ["val_accuracy", "latency"]}
    facts: list[Any] = [
        Started(experiment=experiment),
        *(Suggested(trial=name, stem=name, params={}, config=config) for name in "abc"),
        *(Running(name, 1, "here") for name in "abc"),
        Epoch("a", 1, {"val/accuracy": 0.5, **loss}),
        Epoch("b", 1, {"val/accuracy": 0.7, **loss}),
        Epoch("c", 1, {"val/accuracy": 0.5, **loss}),
        Costed("a", cost(2.0)),
        Costed("c", cost(1.0)),
        Epoch("b", 1, {"val/accuracy": 0.4, **loss}),  # trained again after a crash
        Ended("a", "diverged", "the loss is infinite"),
        Resumed(experiment={"objectives": ["val_accuracy"]}),
        Suggested(trial="d", stem="c", params={}, config=config),
        Epoch("d", 1, {"val/accuracy": 0.5, **loss}),
        Epoch("d", 2, {"val/accuracy": 0.9, **loss}),
    ]
    result, rankings = SearchResult(), []
    for number, data in enumerate(facts, 1):
        result.apply(Event(number, 1, data))
        ranking = [trial.trial for trial in result.ranking]
        assert ranking == [trial.trial for trial in result._rank_trials()]
        assert [trial.trial for trial in result.distinct] == [
            trial.trial for trial in furthest_of_each_training(result._rank_trials())
        ]
        rankings.append("".join(ranking))
    assert [key for key, _ in itertools.groupby(rankings)] == [
        "",
        "a",
        "ba",
        "bac",
        "bca",
        "cab",
        "cb",
        "cdb",
        "dcb",
    ]

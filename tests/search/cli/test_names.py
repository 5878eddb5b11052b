"""A mistyped name of a search: what is meant, what is asked, and what there is."""

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.storage.bucket import Bucket
from search.cli import names
from search.cli.names import confirmed, found_name, meant_by
from trainables.errors import ConfigError

KNOWN = ["birds", "flowers-1", "flowers-2", "pets-2026"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("bird", "birds"),
        ("BIRDS", "birds"),
        ("brids", "birds"),
        ("searches/birds/", "birds"),
        ("pets", "pets-2026"),
        ("flowers", ""),
        ("flowers-11", "flowers-1"),
        ("whales", ""),
    ],
)
def test_a_name_is_understood_if_it_can_mean_one_search_alone(name: str, meant: str) -> None:
    assert meant_by(name, KNOWN) == meant


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """A place with searches of these names."""
    for name in KNOWN:
        (tmp_path / name).mkdir()
        (tmp_path / name / "journal.jsonl").touch()
    return tmp_path


def test_where_nobody_can_answer_it_is_refused_with_what_there_is(storage: Path) -> None:
    assert found_name("birds", storage) == "birds"
    with pytest.raises(ConfigError) as caught:
        found_name("brids", storage)
    assert str(caught.value) == (
        f"no search 'brids' in '{storage}'. Did you mean 'birds'? There are: birds, flowers-1, "
        "flowers-2, pets-2026 (python -m search.list)."
    )


@pytest.mark.parametrize("searches", [True, False])
def test_a_model_without_its_address_is_meant(
    searches: bool, storage: Path, tmp_path: Path
) -> None:
    place = storage if searches else tmp_path / "none"
    with pytest.raises(ConfigError) as caught:
        found_name("birds@champion", place)
    assert str(caught.value) == (
        "no search 'birds@champion'. Did you mean the promoted model 'models:/birds@champion'? "
        "(python -m search.promote NAME makes one.)"
    )


def test_of_many_searches_the_nearest_are_named(storage: Path) -> None:
    for number in range(20):
        (storage / f"whale-{number}").mkdir()
        (storage / f"whale-{number}" / "journal.jsonl").touch()
    with pytest.raises(ConfigError, match=r"There are: whale-0, .*, whale-\d+ and 16 more \("):
        found_name("whale", storage)


@pytest.mark.parametrize(
    ("answer", "is_yes"), [("\n", True), ("y\n", True), ("n\n", False), ("x\n", False), ("", False)]
)
def test_on_a_terminal_it_is_a_question(
    answer: str, is_yes: bool, storage: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(names, "may_ask", lambda: True)
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    if is_yes:
        assert found_name("brids", storage) == "birds"
    else:
        with pytest.raises(ConfigError, match="no search 'brids'"):
            found_name("brids", storage)
    said = capsys.readouterr()
    assert said.out == "", "which is for the result"
    assert said.err.startswith("no search 'brids'. Did you mean 'birds'? [Y/n] ")


def test_enter_alone_does_not_confirm_what_is_dangerous(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    assert not confirmed("delete it?", yes=False)


def test_the_names_in_a_bucket_are_found_too(bucket: Bucket) -> None:
    bucket.put(b"{}", "birds/journal.jsonl/000001")
    assert found_name("birds", bucket) == "birds"
    with pytest.raises(ConfigError, match="Did you mean 'birds'"):
        found_name("birdz", bucket)


def test_a_verb_goes_on_with_the_name_that_was_meant(
    storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "may_ask", lambda: True)
    monkeypatch.setattr(names, "confirmed", lambda question, yes: True)
    args = SimpleNamespace(name="brids", storage=storage)
    assert names.search_of(args).folder == storage / "birds"  # type: ignore[arg-type]
    assert args.name == "birds"

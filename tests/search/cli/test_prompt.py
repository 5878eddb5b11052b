"""Questions at the terminal: a mistyped name of a search, and what is dangerous."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from search.cli import prompt
from search.cli.prompt import confirm, with_confirmed_name
from search.journal.naming import NoSuchSearch
from search.operations.options import SearchRequest
from search.operations.predict import PredictRequest
from search.predict import PredictOptions


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """A place with a search."""
    (tmp_path / "birds").mkdir()
    (tmp_path / "birds" / "journal.jsonl").touch()
    return tmp_path


def opened_name(name: str, storage: Path) -> str:
    """Return the name of the search that a command finds by a name, perhaps after a question."""
    names = list[str]()

    def command(request: SearchRequest) -> int:
        request.home()
        names.append(request.name)
        return 0

    assert with_confirmed_name(command, SearchRequest(name=name, storage=storage)) == 0
    return names[0]


def test_where_nobody_can_answer_it_is_refused(storage: Path, capsys: Any) -> None:
    assert opened_name("birds", storage) == "birds"
    with pytest.raises(NoSuchSearch, match="Did you mean 'birds'"):
        opened_name("brids", storage)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("answer", "is_yes"), [("\n", True), ("y\n", True), ("n\n", False), ("x\n", False), ("", False)]
)
def test_on_a_terminal_it_is_a_question(
    answer: str, is_yes: bool, storage: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(prompt, "can_ask", lambda: True)
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    if is_yes:
        assert opened_name("brids", storage) == "birds"
    else:
        with pytest.raises(NoSuchSearch, match="no search 'brids'"):
            opened_name("brids", storage)
    printed = capsys.readouterr()
    assert printed.out == "", "which is for the result"
    assert printed.err.startswith("no search 'brids'. Did you mean 'birds'? [Y/n] ")


def test_no_question_is_asked_where_no_name_is_close(
    storage: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(prompt, "can_ask", lambda: True)
    for name in ("whales", "birds@champion"):
        with pytest.raises(NoSuchSearch, match=f"no search '{name}'"):
            opened_name(name, storage)
    assert capsys.readouterr() == ("", "")


def test_enter_alone_does_not_confirm_what_is_dangerous(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    assert not confirm("delete it?", yes=False)


def test_a_path_is_not_renamed_with_the_search(
    storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of images may have the name that was mistyped."""
    monkeypatch.setattr(prompt, "can_ask", lambda: True)
    monkeypatch.setattr(prompt, "confirm", lambda question, yes: True)
    requests = list[PredictRequest]()

    def command(options: PredictOptions) -> int:
        requests.append(options.request)
        options.request.location.source(options.request.name, options.request.storage)
        return 7

    request = PredictRequest(name="brids", storage=storage, paths=("brids",))
    assert prompt.with_confirmed_name(command, PredictOptions(request=request)) == 7
    assert requests == [request, replace(request, name="birds")]

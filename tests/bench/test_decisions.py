from pathlib import Path

import pytest

from search.journal.journal import FILE_NAME
from tests.bench.decisions import SCENARIOS, lines


@pytest.mark.parametrize("title", ["random + asha", "resumed", "refined", "selected"])
def test_the_same_decisions_give_the_same_lines(title: str, tmp_path: Path) -> None:
    first, again = (
        list(lines(SCENARIOS[title](str(tmp_path / name)).folder / FILE_NAME))
        for name in ("first", "again")
    )
    assert len(first) > 100
    assert first == again


def test_another_decision_gives_another_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = list(lines(SCENARIOS["random + asha"](str(tmp_path / "before")).folder / FILE_NAME))
    monkeypatch.setattr("search.schedulers.asha.NEW_GAIN", 1.5)
    assert (
        list(lines(SCENARIOS["random + asha"](str(tmp_path / "now")).folder / FILE_NAME)) != before
    )

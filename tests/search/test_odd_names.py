"""Names and places as people have them, through a whole search: letters of the world, spaces, marks
with a meaning elsewhere.
"""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cluster.exit_codes import ExitCode
from search.journal.guessing import is_answer_at_chance
from search.journal.result import SearchResult
from tests.conftest import Command

CLASSES = ("ünï ☃ $x^$ $", "猫 [red]#?%", "<b>\x1b[2J")
PLACE = "ünï ☃ #?%[red]"


@pytest.mark.slow
def test_a_search_and_its_page_take_any_names(
    tmp_path: Path, call: Command, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for brightness, name in enumerate(CLASSES):
        folder = tmp_path / f"images {PLACE}" / name
        folder.mkdir(parents=True)
        for number in range(10):
            Image.fromarray(np.full((8, 8), 80 * brightness + number, np.uint8)).save(
                folder / f"☃ {number}.png"
            )
    words = [
        "--data",
        f"folder:images {PLACE}",
        "--storage",
        PLACE,
        "--name",
        "odd",
        "--set",
        "batch_size=9",
        "--trials",
        "1",
        "--executor",
        "inline",
        "--tracking",
        database,
    ]
    done = call("search.run", "--space", "smoke", *words)
    assert f"{PLACE}/odd/journal.jsonl" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
    assert "Warning" not in done.stderr
    result = SearchResult.read(tmp_path / PLACE / "odd")
    # So few images may not tell a network from guessing.
    assert done.returncode == (ExitCode.AT_CHANCE if is_answer_at_chance(result) else 0), (
        done.stderr
    )
    assert result.started.data["classes"] == sorted(CLASSES)
    assert list((tmp_path / "mlartifacts").rglob("test_confusion.png"))
    page = call("search.report", "odd", "--storage", PLACE)
    assert page.stdout == f"{PLACE}/odd/report.html\n"
    assert r"&lt;b&gt;\x1b[2J" in (tmp_path / PLACE / "odd" / "report.html").read_text()

"""A search's folder is damaged between its interruption and its resume: it comes to its end all the
same, or a person is asked. Never a silent restart.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from search import resume
from tests.faults.conftest import OpenSearch
from tests.faults.harness import GRID, HERE, INLINE, Done, Search
from tests.faults.oracle import assert_contract, assert_same_best

pytestmark = [pytest.mark.ray, pytest.mark.slow]

Damage = Callable[[Path], None]
SPACE = "space.py"
CHECKPOINT = ("model.safetensors", "optimizer.safetensors", "state.json", "manifest.json")
WRONG, REFUSED = 2, 5
MIDST = ("t0003", "t0004")
"""The trials that are interrupted in their second epoch."""


def truncated(path: Path) -> None:
    """The second half is gone."""
    os.truncate(path, path.stat().st_size // 2)


def flipped(path: Path) -> None:
    """One bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    """Nothing in it."""
    path.write_bytes(b"")


def missing(path: Path) -> None:
    """Not there."""
    path.unlink()


def cut_at_a_line(path: Path) -> None:
    """The second half is gone, and nothing looks broken."""
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[: len(lines) // 2]))


def other_digit(path: Path) -> None:
    """One digit of an accuracy; the line is still JSON."""
    head, mark, tail = path.read_bytes().partition(b'"val/accuracy": 0.')
    path.write_bytes(head + mark + (b"8" if tail[:1] == b"9" else b"9") + tail[1:])


def torn(path: Path) -> None:
    """The last line was being written when the power went."""
    with path.open("ab") as file:
        file.write(b'{"n": 99, "time_ms": 17955')


DAMAGES: tuple[Damage, ...] = (truncated, flipped, empty, missing)


@pytest.fixture(scope="module")
def paused_once(
    open_search: OpenSearch, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Search, Path]:
    """The tiny grid with a space file of its own, stopped by Ctrl-C in the midst of two trials, and
    a copy of its whole folder.
    """
    search = open_search()
    space = shutil.copy(HERE / "tiny.py", search.folder / SPACE)
    search.plan(*({"do": "hold", "trial": trial, "epoch": 2} for trial in MIDST))
    search.run(*GRID, "--space", f"{space}:space")
    search.wait_until(
        lambda: len(list(search.faults.glob("struck-hold-*"))) == len(MIDST),
        what="the second epoch of both",
    )
    search.interrupt()
    search.wait_until(lambda: "stopping" in search.err, what="word that it stops")
    search.plan()
    assert search.finish().code == 130
    assert sorted(midst(search)) == sorted(MIDST)  # either may end its epoch first
    kept = tmp_path_factory.mktemp("kept") / "folder"
    shutil.copytree(search.folder, kept)
    return search, kept


@pytest.fixture
def paused(paused_once: tuple[Search, Path]) -> Iterator[Search]:
    """Give that search as it was when it stopped."""
    search, kept = paused_once
    shutil.rmtree(search.folder)
    shutil.copytree(kept, search.folder)
    yield search
    search.end()


def midst(search: Search) -> list[str]:
    """The trials that have started and not ended."""
    ended = {
        event["trial"]
        for event in search.events("ended")
        if event["outcome"] not in ("interrupted", "paused")
    }
    return [
        trial
        for trial in dict.fromkeys(event["trial"] for event in search.events("running"))
        if trial not in ended
    ]


def newest(search: Search, trial: str) -> Path:
    """A trial's newest checkpoint."""
    return max((search.home / "trials" / trial).glob("epoch-*"))


class Begins(Exception):
    """A resume that is not refused comes to Ray's start."""


Attempt = Callable[..., Done]


@pytest.fixture
def attempt(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Attempt:
    """Resume in this process until Ray would start, which a refused search never comes to."""

    def begin(*arguments: object, **options: object) -> NoReturn:
        raise Begins

    def run(search: Search, *words: str) -> Done:
        capsys.readouterr()
        monkeypatch.chdir(search.folder)
        began = time.monotonic()
        code = resume.main(["--storage", str(search.storage), search.name, *words])
        said = capsys.readouterr()
        return Done(code, said.out, said.err, time.monotonic() - began)

    monkeypatch.setattr("search.execution.tune_executor.session", begin)
    return run


def is_refused(done: Done) -> bool:
    """Return whether it was refused; otherwise it would have begun."""
    assert (done.code == REFUSED) != (Begins.__name__ in done.err), done.err
    return done.code == REFUSED


def refused_or_whole(
    search: Search, attempt: Attempt, undisturbed: tuple[Search, Done], *, kills: int = 0
) -> Done:
    """Resume. Either it is refused and nothing has been trained, or everything is as if nothing had
    happened.
    """
    before = search.truth()
    done = attempt(search)
    if is_refused(done):
        assert search.truth() == before
        return done
    done = search.resume(*INLINE).finish()
    assert "Traceback" not in done.err
    assert done.code == 0, done.err
    assert_contract(search, kills=kills, undisturbed=undisturbed[0])
    assert_same_best(done, undisturbed[1])
    return done


@pytest.mark.parametrize("damage", [*DAMAGES, cut_at_a_line, other_digit])
def test_a_damaged_journal_is_never_a_new_beginning(
    damage: Damage, paused: Search, attempt: Attempt, undisturbed: tuple[Search, Done]
) -> None:
    """F7: the journal."""
    damage(paused.journal)
    done = refused_or_whole(paused, attempt, undisturbed)
    if done.code == REFUSED:
        assert "journal" in done.err


def test_a_resume_survives_damaged_files_and_a_missing_space_file(
    paused: Search, attempt: Attempt, undisturbed: tuple[Search, Done]
) -> None:
    """F7, F9, F22: both trials in the midst have a damaged newest checkpoint; each trains one epoch
    again, and the user is told. The space file is gone; the journal holds the space.
    """
    first, second = MIDST
    (paused.folder / SPACE).unlink()
    torn(paused.journal)
    (paused.home / "lock.json").write_text('{"host": "')
    truncated(newest(paused, first) / "model.safetensors")
    missing(newest(paused, second) / "state.json")
    done = refused_or_whole(paused, attempt, undisturbed, kills=2)
    assert done.code == 0
    for trial in (first, second):
        assert newest(paused, trial).name == "epoch-0003"
        assert any(trial in line and "epoch-0002" in line for line in done.err.splitlines()), (
            done.err
        )


@pytest.mark.soak
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", CHECKPOINT)
def test_a_damaged_checkpoint_costs_one_epoch(
    name: str, damage: Damage, paused: Search, attempt: Attempt, undisturbed: tuple[Search, Done]
) -> None:
    """F7, F9: each file of a checkpoint, damaged in each way."""
    for trial in MIDST:
        damage(newest(paused, trial) / name)
    assert refused_or_whole(paused, attempt, undisturbed, kills=2).code == 0


@pytest.mark.soak
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_lock_holds_nobody_up(
    damage: Damage, paused: Search, attempt: Attempt, undisturbed: tuple[Search, Done]
) -> None:
    """F7: the lease is over, whatever is left of its file."""
    lock = paused.home / "lock.json"
    lock.write_text(json.dumps({"host": "elsewhere", "pid": 1, "boot_id": "another"}))
    damage(lock)
    assert refused_or_whole(paused, attempt, undisturbed).code == 0


def test_a_search_without_any_checkpoint_still_comes_to_its_end(
    paused: Search, undisturbed: tuple[Search, Done]
) -> None:
    """F7: `trials/` is gone: the two trials in the midst start again, the journal's facts stay."""
    shutil.rmtree(paused.home / "trials")
    done = paused.resume(*INLINE).finish()
    assert done.code == 0, done.err
    assert_contract(paused, kills=4, undisturbed=undisturbed[0])
    assert_same_best(done, undisturbed[1])


def test_a_best_trial_without_its_checkpoint_is_passed_over(
    paused: Search, undisturbed: tuple[Search, Done]
) -> None:
    """F9: the next best is tested, and a person is asked to look; a second look changes nothing."""
    best = undisturbed[1].summary["best"]
    paused.plan(
        {
            "do": "rot",
            "trial": best["trial_id"],
            "epoch": best["epoch"],
            "file": "model.safetensors",
        }
    )
    first = paused.resume(*INLINE).finish()
    assert first.code == REFUSED, first.err
    assert (
        f"skipped: {best['trial_id']} ({best['val_accuracy']:.4f}), because its "
        "checkpoint cannot be used: " in first.err
    )
    assert first.summary["best"]["trial_id"] != best["trial_id"]
    assert first.summary["best"]["test_accuracy"] > 0.5
    opened = [event["trial"] for event in paused.events("opened")]
    assert opened == [first.summary["best"]["trial_id"]]
    before = paused.truth()
    second = paused.resume(*INLINE).finish()
    assert (second.code, second.summary["best"]) == (REFUSED, first.summary["best"])
    assert [event["trial"] for event in paused.events("opened")] == opened
    assert paused.truth() == before
    assert_contract(paused, undisturbed=undisturbed[0])


def test_a_changed_space_is_refused_with_its_difference(paused: Search, attempt: Attempt) -> None:
    """F22: the space file was edited."""
    path = paused.folder / SPACE
    path.write_text(path.read_text().replace("0.003", "0.004"))
    before = paused.truth()
    done = attempt(paused)
    assert is_refused(done)
    assert f"--space {path}:space" in done.err
    done = attempt(paused, "--space", f"{path}:space")
    assert is_refused(done)
    assert "optimizer.lr" in done.err
    assert "0.003" in done.err
    assert "0.004" in done.err
    assert "--allow-change" in done.err
    assert paused.truth() == before


def test_a_changed_space_may_be_allowed(paused: Search) -> None:
    """F22: the search goes on; what was found before stays."""
    path = paused.folder / SPACE
    path.write_text(path.read_text().replace("0.003", "0.004"))
    done = paused.resume("--space", f"{path}:space", "--allow-change", *INLINE).finish()
    assert done.code == 0, done.err
    assert_contract(paused)


def test_there_is_nothing_to_resume_under_another_name(paused: Search, attempt: Attempt) -> None:
    """F7: no search of that name: said, not started."""
    stranger = Search(paused.folder, name="stranger", tracking=paused.tracking)
    done = attempt(stranger)
    assert done.code == WRONG
    assert "no search" in done.err
    assert not stranger.home.exists()

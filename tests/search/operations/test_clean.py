"""Checkpoints that go: at a search's end, and by `search.clean`."""

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.exit_codes import ExitCode
from cluster.storage.bucket import Bucket, StorageError
from search.decisions.driver import Driver
from search.decisions.earlier_searches import read_trainings
from search.design.experiment import Experiment
from search.journal.bucket_log import JournalCopy
from search.journal.events import (
    Concluded,
    Ended,
    Epoch,
    Evaluated,
    Finished,
    Freed,
    Selecting,
    Suggested,
)
from search.journal.journal import FILE_NAME, read
from search.journal.keeping import ALL, ANSWER, NEEDED, find_removable, freed_event
from search.journal.result import SearchResult, TrialResult
from search.journal.store import Home, home
from search.operations.clean import CleanRequest, removable_checkpoints, removable_of, size_of
from search.operations.clean import clean as clean_up
from search.sessions.phases import drop_unneeded, dropping_failed
from search.space import Choice
from search.trained.answer import find_answer
from search.views.removable_table import removable_rows
from tests.conftest import Command
from tests.support.played import OpenDriver, changed, evaluation, good_lr_wins, play, report
from tests.support.stories import story_lines
from trainables.config import TrialConfig
from trainables.errors import ConfigError
from trainables.messages import Report

SIZE = 1000
"""Bytes of a checkpoint."""


def one_diverges(config: TrialConfig, epoch: int) -> Report:
    """Play a training; the shortest with the largest step diverges."""
    if (config.optimizer.lr, config.epochs) == (0.1, 3):
        return report(epoch, outcome="diverged", reason="train/loss is nan")
    return good_lr_wins(config, epoch)


@pytest.fixture
def played(open_driver: OpenDriver, experiment: Experiment) -> Callable[..., Driver]:
    """Play a search of nine trials, a few of which are stopped and one diverges, until it has
    written so many events; give each two checkpoints.
    """

    def make(
        events: int = 10**6, *, evaluated: bool = True, sure: float = 0.0, **changes: Any
    ) -> Driver:
        search = changed(experiment, scheduler="asha", sure=sure, **changes)
        driver = play(open_driver(search), one_diverges, slots=3, events=events)
        for trial in driver.result.ranking if evaluated else ():
            driver.journal.append(Evaluated(trial.trial, trial.best_epoch or 0, **evaluation()))
        for trial in driver.trials.values():
            for epoch in (1, trial.reached):
                put(search.folder / "trials" / trial.trial / f"epoch-{epoch:04d}")
        return driver

    return make


def put(path: Path) -> None:
    """Write what stands for a checkpoint."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "model.safetensors").write_bytes(b"m" * (SIZE - 2))
    (path / "manifest.json").write_text("{}")


def left(kept: Home, result: SearchResult) -> dict[str, list[str]]:
    return {trial: list(names) for trial, names in kept.checkpoints(result.trials).items()}


def of(result: SearchResult, *outcomes: str) -> set[str]:
    return {trial.trial for trial in result.trials.values() if trial.outcome in outcomes}


def best_of(result: SearchResult) -> TrialResult:
    assert result.best is not None
    return result.best


def test_of_a_search_that_ended_stopped_and_failed_trials_need_nothing(
    played: Callable[..., Driver],
) -> None:
    driver = played()
    result, kept = driver.result, driver.experiment.home
    assert of(result, "stopped")
    assert of(result, "completed")
    found = find_removable(result, kept, NEEDED)
    assert {one.trial for one in found} == of(result, "stopped", "diverged")
    assert all(one.is_all for one in found)


def test_the_rows_add_up_to_what_may_go(played: Callable[..., Driver]) -> None:
    driver = played()
    removable = removable_of(
        driver.result, driver.experiment.home, driver.experiment.storage, NEEDED
    )
    rows = removable_rows(removable)
    assert sum(trials for _, trials, _, _ in rows) == len(removable) > 0
    assert size_of(removable) == freed_event(removable, NEEDED).bytes
    assert [title for title, *_ in rows] == list(
        dict.fromkeys(trial.kind.title for trial in removable)
    )


def test_what_may_go_on_is_needed(played: Callable[..., Driver]) -> None:
    driver = played(events=40)
    result, kept = driver.result, driver.experiment.home
    assert of(result, "held", "running")
    assert {one.trial for one in find_removable(result, kept, NEEDED)} <= of(result, "diverged")
    told = {one.kind.title for one in find_removable(result, kept, ANSWER)}
    assert "trials that can be resumed" in told


def test_a_stopped_trial_is_needed_until_it_is_evaluated(played: Callable[..., Driver]) -> None:
    driver = played(evaluated=False)
    found = find_removable(driver.result, driver.experiment.home, NEEDED)
    assert {one.trial for one in found} == of(driver.result, "diverged")


def test_the_best_that_ended_stays_while_a_better_one_may_still_diverge(
    played: Callable[..., Driver],
) -> None:
    driver = played()
    result, best = driver.result, best_of(driver.result)
    best.outcome = "interrupted"
    second = result.ranking[1]
    second.outcome = "stopped"
    found = {one.trial for one in find_removable(result, driver.experiment.home, NEEDED)}
    assert not found & {best.trial, second.trial}
    best.outcome = "completed"
    assert second.trial in {
        one.trial for one in find_removable(result, driver.experiment.home, NEEDED)
    }


def test_a_search_drops_them_at_its_end_and_says_so(played: Callable[..., Driver]) -> None:
    driver, said = played(), list[str]()
    driver.journal.complain = said.append
    gone = of(driver.result, "stopped", "diverged")
    drop_unneeded(driver)
    assert left(driver.experiment.home, driver.result).keys() == of(driver.result, "completed")
    assert {trial.trial for trial in driver.result.trials.values() if trial.is_freed} == gone
    (line,) = said
    assert f"{len(gone) - 1} stopped trials and 1 diverged or failed trial were removed" in line
    assert "To keep them, use --keep all." in line


def test_with_keep_all_it_drops_nothing(played: Callable[..., Driver]) -> None:
    driver = played(keep=ALL)
    drop_unneeded(driver)
    assert left(driver.experiment.home, driver.result).keys() == driver.trials.keys()


def test_an_interrupted_search_drops_nothing(played: Callable[..., Driver]) -> None:
    driver = played()
    driver.close("interrupted", "stopped by SIGINT")
    drop_unneeded(driver)
    assert left(driver.experiment.home, driver.result).keys() == driver.trials.keys()


def test_storage_that_refuses_does_not_end_a_search(
    played: Callable[..., Driver], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, said = played(), list[str]()
    driver.journal.complain = said.append
    monkeypatch.setattr(Home, "drop", lambda *given: (_ for _ in ()).throw(StorageError("no")))
    drop_unneeded(driver)
    assert "could not be removed (no). To remove them later: " in said[0]
    assert "search.clean played" in said[0]


@pytest.mark.parametrize("value", ["best", "", "none"])
def test_another_keep_is_refused(experiment: Experiment, value: str) -> None:
    with pytest.raises(ConfigError, match=r"unknown value of --keep .* Known: all, needed"):
        changed(experiment, keep=value)


def test_keep_is_remembered_by_the_journal(experiment: Experiment) -> None:
    for search in (experiment, changed(experiment, keep=ALL)):
        again = Experiment.from_description("again", search.describe(), search.storage)
        assert again.keep == search.keep
    assert "keep" not in experiment.describe()


@pytest.fixture(params=["folder", "bucket"])
def over(
    request: pytest.FixtureRequest, played: Callable[..., Driver], call: Command
) -> tuple[Home, Callable[..., Any]]:
    """A search that is over, in a folder and in a bucket, and `search.clean` of it."""
    driver = played(sure=0.8)
    folder, storage = driver.experiment.folder, driver.experiment.storage
    if request.param == "bucket":
        storage = request.getfixturevalue("bucket")
        assert isinstance(storage, Bucket)
        files = [path.relative_to(folder) for path in folder.glob("trials/**/*.*")]
        (storage / "played").upload(folder, list(map(str, files)))
        JournalCopy(storage / "played" / FILE_NAME).append((folder / FILE_NAME).read_bytes())
        shutil.rmtree(folder)
    kept = home(storage, "played")
    return kept, lambda *words: call("search.clean", "played", "--storage", storage, *words)


Over = tuple[Home, Callable[..., Any]]
in_a_folder = pytest.mark.parametrize("over", ["folder"], indirect=True)


def test_clean_leaves_the_answer_alone(over: Over) -> None:
    kept, clean = over
    before = SearchResult.read(kept.opened())
    best = best_of(before)
    done = clean("--keep", ANSWER, "--yes")
    assert done.returncode == 0, done.stderr
    for title in ("stopped trials", "completed trials", "diverged or failed trials"):
        assert title in done.stdout
    result = SearchResult.read(kept.opened())
    assert left(kept, result) == {best.trial: [f"epoch-{best.best_epoch:04d}"]}
    assert {trial.trial for trial in result.trials.values() if not trial.is_freed} == {best.trial}
    assert result.wall_s == before.wall_s
    assert result.best == best
    assert "no checkpoints of" in clean("--keep", ANSWER, "--yes").stdout


@in_a_folder
def test_a_line_that_was_half_written_is_said_to_be_cut_off(over: Over) -> None:
    kept, clean = over
    with (kept.folder / FILE_NAME).open("ab") as journal:
        journal.write(b'{"n": 1000, "time')
    assert "incomplete (17 bytes) and was removed" in clean("--yes").stdout
    assert "incomplete" not in clean("--yes").stdout


@in_a_folder
def test_clean_tells_a_program_what_went(over: Over) -> None:
    kept, clean = over
    result = SearchResult.read(kept.opened())
    gone = len(of(result, "stopped"))
    told = json.loads(clean("--yes", "--json").stdout.splitlines()[-1])
    assert told["removable"]["stopped trials"]["trials"] == gone
    assert told["removed_bytes"] == sum(one["bytes"] for one in told["removable"].values())


@in_a_folder
@pytest.mark.parametrize("words", [["--dry-run"], [], ["--keep", "none", "--yes"]])
def test_clean_removes_nothing_unasked(over: Over, words: list[str]) -> None:
    kept, clean = over
    done = clean(*words)
    assert done.returncode == (0 if words == ["--dry-run"] else ExitCode.USAGE)
    result = SearchResult.read(kept.opened())
    assert left(kept, result).keys() == result.trials.keys()
    assert not any(trial.is_freed for trial in result.trials.values())


@in_a_folder
@pytest.mark.parametrize(("said", "is_done"), [("y", True), ("", False), ("no", False)])
def test_clean_asks(
    over: Over, monkeypatch: pytest.MonkeyPatch, said: str, *, is_done: bool
) -> None:
    kept, clean = over
    monkeypatch.setattr("search.clean.can_ask", lambda: True)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{said}\n"))
    assert clean().returncode == 0
    result = SearchResult.read(kept.opened())
    assert any(trial.is_freed for trial in result.trials.values()) == is_done


def test_a_running_search_is_not_cleaned(over: Over) -> None:
    kept, clean = over
    with kept.lease():
        done = clean("--yes")
    assert done.returncode == 5
    assert "is being run by" in done.stderr
    result = SearchResult.read(kept.opened())
    assert left(kept, result).keys() == result.trials.keys()


def select(driver: Driver) -> list[str]:
    """Begin a selection between the best two trials, and end two trainings of each; return the
    better ones.
    """
    first, second = (trial.trial for trial in driver.result.ranking[:2])
    driver.journal.append(
        Selecting(candidates=[first, second], seeds=2, alpha=0.05, slots=2, began_ms=1)
    )
    for candidate in (first, second):
        for seed, accuracy in ((1, 0.5), (2, 0.75)):
            name, known = f"{candidate}-s{seed}", driver.result.trials[candidate]
            driver.journal.append(
                Suggested(
                    trial=name,
                    params=known.params,
                    config=known.config,
                    repeat_of=candidate,
                    seed=seed,
                )
            )
            driver.journal.append(Epoch(name, 1, report(1, accuracy).metrics))
            driver.journal.append(Ended(name, "completed", ""))
            put(driver.experiment.folder / "trials" / name / "epoch-0001")
    return [f"{first}-s2", f"{second}-s2"]


def test_of_a_selection_the_best_training_of_each_candidate_stays(
    played: Callable[..., Driver],
) -> None:
    driver = played()
    better = select(driver)
    driver.journal.append(Concluded("completed", ""))
    gone = {one.trial for one in find_removable(driver.result, driver.experiment.home, ANSWER)}
    assert driver.result.selection is not None
    assert gone & set(driver.result.selection.repeats) == {name[:-1] + "1" for name in better}


@pytest.mark.parametrize("what", ["search", "selection"])
def test_what_was_cut_off_is_not_cleaned(
    played: Callable[..., Driver], call: Command, what: str
) -> None:
    driver = played() if what == "selection" else played(events=40)
    if what == "selection":
        select(driver)
    storage = driver.experiment.storage
    done = call("search.clean", "played", "--storage", storage, "--keep", ANSWER, "--yes")
    assert (done.returncode, done.stdout) == (5, "")
    assert "was cut off before it finished. Continue it first: " in done.stderr
    assert f"-m search.{'select' if what == 'selection' else 'resume'} played" in done.stderr
    assert left(driver.experiment.home, driver.result).keys() == driver.result.trials.keys()


def test_a_trial_that_is_still_to_be_evaluated_stays(played: Callable[..., Driver]) -> None:
    driver = played(evaluated=False)
    found = find_removable(driver.result, driver.experiment.home, ANSWER)
    assert not of(driver.result, "completed", "stopped") & {
        one.trial for one in found if one.is_all
    }


def test_a_clean_that_was_killed_is_finished_by_the_next(
    over: Over, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, clean = over
    drop, calls = type(kept).drop, list[str]()

    def killed(self: Home, trial: str, names: list[str]) -> None:
        calls.append(trial)
        if len(calls) == 3:
            raise KeyboardInterrupt
        drop(self, trial, names)

    monkeypatch.setattr(type(kept), "drop", killed)
    assert clean("--keep", ANSWER, "--yes").returncode == 130
    monkeypatch.setattr(type(kept), "drop", drop)
    result = SearchResult.read(kept.opened())
    assert len(left(kept, result)) > 1
    assert clean("--keep", ANSWER, "--yes").returncode == 0
    assert left(kept, result).keys() == {best_of(result).trial}


def test_a_trial_without_checkpoints_is_not_promoted(played: Callable[..., Driver]) -> None:
    driver = played()
    driver.journal.append(Finished("completed", ""))
    stopped = min(of(driver.result, "stopped"))
    kept, storage = driver.experiment.home, driver.experiment.storage
    assert find_answer(driver.result, kept, storage, stopped).trial == stopped
    drop_unneeded(driver)
    with pytest.raises(ConfigError, match="the checkpoints of this trial were removed"):
        find_answer(driver.result, kept, storage, stopped)
    assert find_answer(driver.result, kept, storage) == driver.result.best
    best = best_of(driver.result)
    driver.journal.append(Freed([best.trial], ANSWER, 0))
    with pytest.raises(
        ConfigError, match=f"the checkpoints of {best.trial}, the trial that"
    ) as told:
        find_answer(driver.result, kept, storage)
    assert "were removed, because" not in str(told.value)


def test_nothing_begins_with_what_was_removed(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    """Of trials that are the beginnings of others, until they have run again."""
    space = experiment.space.fixed({"optimizer.schedule": "constant"})
    driver = open_driver(changed(experiment, space=space, base=TrialConfig().override(space.base)))
    play(driver)
    longest = max(driver.trials.values(), key=lambda trial: trial.config["epochs"]).trial
    others = driver.result.trials[longest]
    others.epochs.clear()
    named = {one.trial for one in driver.policy.beginnings(longest)}
    assert named
    driver.journal.append(Freed(sorted(named), NEEDED, 0))
    assert not named & {one.trial for one in driver.policy.beginnings(longest)}


def test_other_searches_read_in_the_journal_what_was_removed(
    played: Callable[..., Driver],
) -> None:
    driver = played()
    found = find_removable(driver.result, driver.experiment.home, NEEDED)
    driver.journal.append(freed_event(found, NEEDED))
    _, trainings = read_trainings((driver.experiment.folder / FILE_NAME).read_bytes())
    left = {trial for epochs in trainings.values() for trial in epochs}
    with_epochs = {trial.trial for trial in driver.result.trials.values() if trial.epochs}
    assert left == with_epochs - of(driver.result, "stopped", "diverged")


def test_a_trial_that_failed_for_good_loses_its_checkpoints_before_the_search_ends(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    space = replace(experiment.space, domains={"optimizer.lr": Choice(0.01, 0.1, 0.2)})
    driver = open_driver(changed(experiment, space=space))
    ticks: list[str] = []
    tick = dropping_failed(driver, lambda: ticks.append("drawn"))
    for outcome in ("diverged", None):
        name, _ = driver.suggest()  # type: ignore[misc]
        driver.running(name)
        put(experiment.folder / "trials" / name / "epoch-0001")
        driver.report(name, report(1, outcome=outcome))
        tick()
    tick()
    assert left(experiment.home, driver.result) == {"t0002": ["epoch-0001"]}
    assert driver.result.trials["t0001"].is_freed
    assert ticks == ["drawn"] * 3
    told = "\n".join(story_lines(read(driver.journal.path), "t0001"))
    assert "its checkpoints were removed (kept: needed ones)" in told
    assert "removed" not in "\n".join(story_lines(read(driver.journal.path), "t0002"))


@pytest.mark.parametrize("changes", [{"keep": "all"}, {}], ids=["all are kept", "lengths vary"])
def test_checkpoints_that_are_kept_or_that_longer_trials_go_on_from_stay_until_the_end(
    open_driver: OpenDriver, experiment: Experiment, changes: dict[str, Any]
) -> None:
    space = experiment.space
    if changes:
        space = replace(space, domains={"optimizer.lr": Choice(0.01, 0.1)})
    driver = open_driver(changed(experiment, space=space, **changes))
    name, _ = driver.suggest()  # type: ignore[misc]
    driver.running(name)
    put(experiment.folder / "trials" / name / "epoch-0001")
    driver.report(name, report(1, outcome="diverged"))
    dropping_failed(driver, lambda: None)()
    assert left(experiment.home, driver.result) == {name: ["epoch-0001"]}


@in_a_folder
def test_an_unknown_keep_removes_nothing_in_python_either(over: Over) -> None:
    kept, _ = over
    request = CleanRequest(name=kept.folder.name, storage=kept.folder.parent, keep="none")
    for operation in (removable_checkpoints, clean_up):
        with pytest.raises(ConfigError, match="unknown value of --keep 'none'"):
            operation(request)
    result = SearchResult.read(kept.opened())
    assert left(kept, result).keys() == result.trials.keys()


@in_a_folder
def test_a_second_clean_records_nothing(over: Over) -> None:
    kept, _ = over
    request = CleanRequest(name=kept.folder.name, storage=kept.folder.parent)
    assert clean_up(request) > 0
    journal = (kept.folder / FILE_NAME).read_bytes()
    assert clean_up(request) == 0
    assert (kept.folder / FILE_NAME).read_bytes() == journal

import io
import json
import re
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.storage.bucket import Bucket
from search.cli.follow import Follow
from search.design.commands import more_trials
from search.design.experiment import Experiment
from search.facts.standing import SearchStanding
from search.facts.trials import state_reason
from search.journal.events import Concluded, Risked, Selecting, Suggested
from search.journal.journal import FILE_NAME, JournalError, read
from search.journal.lease import FILE_NAME as LOCK
from search.journal.lease import Lease
from search.journal.store import home
from search.tracking.note import markdown_summary
from search.values.message import Remedy
from search.values.wording import duration
from search.views.standing import standing_lines, trials_table
from search.views.terminal import Terminal
from search.views.text.sentences import risk_text
from tests.conftest import Command
from tests.support.played import OpenDriver, changed, play, report
from tests.support.reports import verdict_texts
from tests.support.stories import story_lines
from trainables.messages import Report


def test_a_running_search_names_its_driver_and_one_that_was_cut_off_how_to_go_on(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = open_driver(experiment)
    play(driver, events=9)
    assert (
        "running now (process 7 on far)"
        in standing_lines(SearchStanding("played", driver.result, "process 7 on far"))[1]
    )
    assert standing_lines(SearchStanding("played", driver.result))[1].endswith(
        f"continue with: {Remedy('resume', 'played')}"
    )
    assert "cut off" in standing_lines(SearchStanding("played", driver.result))[1]
    play(driver)


def test_a_finished_search_tells_its_best_and_its_counts(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    result = play(open_driver(changed(experiment, scheduler="asha"))).result
    first, second, third, fourth = standing_lines(SearchStanding("played", result))
    assert first == "played: nine on digits, grid + asha, seed 0"
    assert second == "  completed"
    result.started.data.update(name="folder", root="/images/pets")
    assert standing_lines(SearchStanding("played", result))[0].startswith(
        "played: nine on folder pets, "
    )
    assert "on `folder pets` (" in markdown_summary(result)
    assert f"best {result.best.primary_value:.4f} ({result.best.trial})" in third  # type: ignore[union-attr]
    assert re.fullmatch(
        r"  The chance that one of the \d stopped trials would have been the best is about \d+%; "
        r"about \d more epochs? would halve it \(--sure 0.9\d*\)\.",
        fourth,
    )
    assert fourth.strip() in verdict_texts(result)["How sure"]
    result.risk = Risked(0.004, 8)
    assert standing_lines(SearchStanding("played", result))[3].startswith(
        "  It is unlikely (less than 1%) that "
    )
    result.risk = None
    assert len(standing_lines(SearchStanding("played", result))) == 3
    assert trials_table(result).row_count == 9


@pytest.mark.parametrize(
    ("new", "told"),
    [
        (
            0.04,
            "In that many epochs, new trials find a better one with a chance of about 4%, the "
            "stopped ones with about 10%.",
        ),
        (0.003, "new trials find a better one with a chance of less than 1%, the stopped ones"),
    ],
)
def test_at_its_end_a_search_says_whether_new_trials_would_gain_more(
    new: float, told: str, open_driver: OpenDriver, experiment: Experiment
) -> None:
    result = play(open_driver(changed(experiment, scheduler="asha"))).result
    result.risk = Risked(0.2, 8)
    assert "new trials" not in risk_text(result), "of an earlier version, or none are left"
    result.risk = Risked(0.2, 8, new)
    assert told in risk_text(result)
    result.outcome = "gain"
    assert "new trials" not in risk_text(result), "that was said already"


def test_networks_that_a_baseline_beats_are_not_said_to_be_the_best(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    """Early stopping compares networks with each other only."""
    result = play(open_driver(changed(experiment, scheduler="asha"))).result
    assert result.best is not None
    result.best.config = {**result.best.config, "model": {"name": "svm"}}
    result.risk = Risked(1.0, 8, 0.04)
    text = risk_text(result)
    assert re.fullmatch(
        r"The chance that one of the \d stopped trials would have been the best network is about "
        r"100%; whether it would have been better than t\d{4}, which was fitted once, is not "
        r"known\.",
        text,
    )
    result.risk = Risked(0.004, 8)
    assert "the best network is less than 1%; " in risk_text(result)


def test_why_a_trial_was_stopped_is_what_was_known_then_and_not_why_it_waited(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    result = play(open_driver(changed(experiment, scheduler="asha"))).result
    stopped = [trial for trial in result.trials.values() if trial.outcome == "stopped"]
    assert stopped
    assert all(
        state_reason(trial) == trial.reason and "chance to be the best" in trial.reason
        for trial in stopped
    )


def test_an_interrupted_search_can_be_gone_on_with(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = open_driver(experiment)
    trial, _ = driver.suggest()  # type: ignore[misc]
    driver.running(trial)
    driver.close("interrupted", "stopped by SIGINT")
    driver.report(trial, report(1))
    driver.finish()
    assert standing_lines(SearchStanding("played", driver.result))[1] == (
        f"  interrupted (stopped by SIGINT); continue with: {Remedy('resume', 'played')}"
    )
    assert "1 interrupted of 9" in standing_lines(SearchStanding("played", driver.result))[2]


def test_why_a_trial_waits_or_was_tried_again_is_in_its_line(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = open_driver(experiment)
    trial, _ = driver.suggest()  # type: ignore[misc]
    driver.running(trial)
    driver.fail(trial, "lost", "its node was lost")
    driver.suggest()
    driver.running(trial)
    driver.report(trial, Report(1, waiting="no space"))
    assert state_reason(driver.result.trials[trial]) == "waiting: no space; retried after: lost"


def test_the_story_of_a_stopped_trial_names_its_rivals_at_that_moment(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = open_driver(changed(experiment, scheduler="asha", trials=5))
    names = [driver.suggest()[0] for _ in range(3)]  # type: ignore[index]
    for name, accuracy in zip(names, (0.9, 0.2, 0.95), strict=True):
        driver.running(name, host="10.0.0.7")
        driver.report(name, report(1, accuracy))
    text = "\n".join(line[11:] for line in story_lines(read(driver.journal.path), "t0002"))
    assert "suggested by grid (seed 0) when 0 trials had ended and 0 ran" in text
    assert "attempt 1 started on 10.0.0.7" in text
    assert "epoch 1: val accuracy 0.2000, its best, val loss 0.8000" in text
    assert "held by asha: place 2 of 2 at epoch 1, forecast 2nd; " in text
    assert "\n    1. t0001 0.9000\n    2. t0002 0.2000  <- this one" in text
    assert "t0003" not in text


def test_trials_that_are_held_are_counted_and_listed_when_asked_for(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = play(open_driver(changed(experiment, scheduler="asha")), events=40)
    held = [name for name, trial in driver.result.trials.items() if trial.outcome == "held"]
    assert len(held) > 3
    shown = [str(cell) for cell in trials_table(driver.result, 1).columns[0]._cells]
    assert len(set(shown) & set(held)) <= 2, "the best, and the last"
    everyone = trials_table(driver.result, 99)
    assert set(held) <= {str(cell) for cell in everyone.columns[0]._cells}
    assert all("at epoch" in state_reason(driver.result.trials[name]) for name in held)


def test_the_story_tells_retries_checkpoints_and_waiting(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = open_driver(experiment)
    trial, _ = driver.suggest()  # type: ignore[misc]
    driver.running(trial)
    driver.fail(
        trial, "hung", "it made no step for 10 s", traceback="trials/t0001/errors/attempt-1.txt"
    )
    driver.suggest()
    driver.running(trial)
    driver.report(trial, Report(2, restored=["epoch-0003 is damaged"]))
    driver.report(trial, Report(2, waiting="no space"))
    driver.fail(trial, "error", "ValueError: no")
    text = "\n".join(story_lines(read(driver.journal.path), trial))
    for words in (
        "stored: trials/t0001/errors/attempt-1.txt",
        "is retried (hung): it made no step for 10 s",
        "attempt 2 started on this machine",
        "a checkpoint could not be used: epoch-0003 is damaged",
        "continued after epoch 2",
        "waited: no space",
        "failed (error): ValueError: no",
    ):
        assert words in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (200_000, "2 days")],
)
def test_a_duration_in_words(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_commands(open_driver: OpenDriver, experiment: Experiment, call: Command) -> None:
    play(open_driver(changed(experiment, scheduler="asha")))
    done = call("search.status", "played")
    assert (done.returncode, done.stderr) == (0, "")
    assert "t0009" in done.stdout
    with Lease(experiment.folder):
        shown = json.loads(call("search.status", "played", "--json").stdout)
    assert shown["holder"].startswith("process ")
    assert len(shown["trials"]) == 9
    assert call("search.why", "played", "t0001").stdout.startswith("t0001 of played\n")
    wrong = call("search.why", "played", "t77")
    assert (wrong.returncode, wrong.stderr) == (
        2,
        "error: no trial 't77' in played, which has t0001 to t0009.\n",
    )


def test_a_selection_that_runs_or_was_cut_off_is_told_apart_from_its_search(
    open_driver: OpenDriver, experiment: Experiment, call: Command
) -> None:
    driver = play(open_driver(experiment))
    driver.journal.append(
        Selecting(candidates=["t0001", "t0002"], seeds=3, alpha=0.05, slots=2, began_ms=1)
    )
    driver.journal.append(
        Suggested(trial="t0001-s1", params={}, config={}, repeat_of="t0001", seed=1)
    )
    said = standing_lines(SearchStanding("played", driver.result, "process 7 on far"))
    assert said[1] == "  completed"
    assert said[3] == "  selection running now (process 7 on far): 2 candidates, 0 trainings ended"
    assert standing_lines(SearchStanding("played", driver.result))[3] == (
        "  selection cut off: 2 candidates, 0 trainings ended; continue with: "
        f"{Remedy('select', 'played')}"
    )
    driver.journal.append(Concluded(outcome="completed", reason=""))
    assert (
        standing_lines(SearchStanding("played", driver.result))[3]
        == "  selection completed: 2 candidates, 0 trainings ended"
    )
    shown = json.loads(call("search.status", "played", "--json").stdout)["selection"]
    assert shown == {
        "outcome": "completed",
        "reason": "",
        "trainings": {"t0001-s1": "pending"},
        "candidate": None,
        "trial": None,
    }


def test_a_screen_is_not_overflown(open_driver: OpenDriver, experiment: Experiment) -> None:
    driver = play(open_driver(changed(experiment, scheduler="asha")), events=40)
    shown = trials_table(driver.result, rows=4)
    names = [str(cell) for cell in shown.columns[0]._cells]
    best = driver.result.best
    assert best is not None
    assert len(names) == 4
    assert best.trial in names
    with Terminal(width=80, record=True, file=io.StringIO()) as console:
        console.print(shown)
    drawn = console.export_text().splitlines()
    assert len(drawn) == 6, "each trial takes one line, below the titles"
    assert all(len(line) <= 80 for line in drawn)


def test_a_search_that_is_followed_is_told_line_by_line_to_its_end(
    open_driver: OpenDriver, experiment: Experiment, capsys: pytest.CaptureFixture[str]
) -> None:
    driver = play(open_driver(experiment), events=9)
    kept = home(experiment.folder.parent, "played")
    holders = iter(["process 7", "process 7", "process 7", ""])
    kept.holder = lambda: next(holders)  # type: ignore[method-assign]
    steps: list[float] = []

    def wait(seconds: float) -> None:
        steps.append(seconds)
        if len(steps) == 2:
            trial = next(name for name in driver.trials if not driver.trials[name].ended_ms)
            driver.report(trial, report(2, outcome="diverged", reason="loss is NaN"))
        if len(steps) == 3:
            play(driver)

    assert Follow("played", kept, experiment.folder.parent, wait).run() == 0
    said = capsys.readouterr().out
    assert said.count("running now (process 7)") == 1, "nothing is said while nothing changes"
    assert "diverged: loss is NaN\n" in said
    assert "1 diverged of 9; best " in said
    assert said.count("\n  8 completed, 1 diverged of 9; ") == 1


@pytest.mark.parametrize("is_empty", [True, False])
def test_a_search_that_has_not_begun_is_followed_until_it_has_or_its_driver_is_gone(
    tmp_path: Path, *, is_empty: bool
) -> None:
    (tmp_path / "new" / "trials").mkdir(parents=True)
    if is_empty:
        (tmp_path / "new" / FILE_NAME).touch()
    kept, steps = home(tmp_path, "new"), list[float]()
    holders = iter(["process 7", ""])
    kept.holder = lambda: next(holders)  # type: ignore[method-assign]
    with pytest.raises(JournalError):
        Follow("new", kept, tmp_path, steps.append).run()
    assert len(steps) == 1


def test_a_search_that_has_not_begun_in_a_bucket_is_waited_for(bucket: Bucket) -> None:
    kept, steps = home(bucket, "new"), list[float]()
    with ExitStack() as stack:
        stack.enter_context(kept.lease())

        def wait(seconds: float) -> None:
            steps.append(seconds)
            stack.close()

        with pytest.raises(JournalError, match="no search at"):
            Follow("new", kept, bucket, wait).run()
    assert len(steps) == 1


def test_a_search_whose_driver_was_killed_elsewhere_is_not_followed_for_ever(
    open_driver: OpenDriver, experiment: Experiment, capsys: pytest.CaptureFixture[str]
) -> None:
    play(open_driver(experiment), events=9)
    kept, steps = home(experiment.folder.parent, "played"), list[float]()
    kept.holder = lambda: "process 7 on far, if it is still alive"  # type: ignore[method-assign]
    lock = experiment.folder / LOCK

    def wait(seconds: float) -> None:
        steps.append(seconds)
        if len(steps) == 5:
            lock.write_bytes(b"it lived until now")

    assert Follow("played", kept, experiment.folder.parent, wait).run() == 0
    assert sum(steps[5:]) == pytest.approx(kept.patience_s, abs=2 * max(steps))
    said = capsys.readouterr().out
    assert "probably cut off: process 7 on far, if it is still alive; nothing was" in said
    assert "continue with: " in said


def test_following_takes_no_json(call: Command, tmp_path: Path) -> None:
    (tmp_path / "searches" / "one" / "trials").mkdir(parents=True)
    done = call("search.status", "one", "--follow", "--json")
    assert (done.returncode, done.stderr) == (
        2,
        "error: --follow cannot be combined with --json or --all. Use --follow without "
        "them, or leave it out.\n",
    )


@pytest.mark.parametrize(
    ("trials", "outcome", "more"),
    [
        (4, "completed", 8),
        (6, "completed", 9),
        (9, "completed", None),
        (4, "budget", None),
    ],
)
def test_a_search_that_had_all_its_trials_says_how_to_get_more(
    trials: int, outcome: str, more: int | None, experiment: Experiment
) -> None:
    wanted = replace(experiment, algorithm="random", trials=trials)
    remedy = more_trials(wanted, outcome)
    assert (None if remedy is None else remedy.options["trials"]) == more

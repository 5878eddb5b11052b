import io
import itertools
import re
import time
from contextlib import closing
from dataclasses import asdict

import pytest
from rich.console import Console
from rich.text import Text

from search.design.budget import Budget, limit
from search.design.experiment import Experiment
from search.journal.events import Evaluated, Unevaluated
from search.journal.journal import Event
from search.journal.result import SearchResult, TrialResult
from search.space import Choice, Float, SearchSpace
from search.views.live import DRAWN_SHARE, FINISHING, Display, LongEpochs
from search.views.terminal import say
from tests.support.played import OpenDriver, changed, evaluation, play, report
from trainables.catalog.guesses import Guess
from trainables.checkpoints.heartbeat import Beat
from trainables.config import TrialConfig


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_search_is_shown_on_a_terminal_and_elsewhere(
    experiment: Experiment, open_driver: OpenDriver, is_terminal: bool
) -> None:
    driver = open_driver(changed(experiment, scheduler="asha"))
    console = Console(file=io.StringIO(), force_terminal=is_terminal, width=120)
    with closing(Display(driver.result, 9, console)) as display:
        display.show()
        driver.journal.listeners.append(display.apply)
        play(driver, slots=2)
        say(console, "news [with brackets]")
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "news [with brackets]" in printed
    assert ("val accuracy" in printed) == is_terminal


def test_progress_within_a_long_epoch_is_read_from_heartbeats() -> None:
    """Half a minute after the first reading, a quarter more of the epoch is done."""
    now, shares = 0.0, {"t0001": 0.25, "t0002": 0.1}
    result = SearchResult()
    for name in shares:
        result.trials[name] = TrialResult(name, {}, {}, outcome="running", attempt=1)
    epochs = LongEpochs(
        lambda trials: [Beat(1, 1, "n", 1, shares[trial]) for trial in trials], clock=lambda: now
    )
    assert epochs.text(result) == ""
    now = 30.0
    assert epochs.text(result) == "t0001: 25% of epoch 1"
    now, shares["t0001"] = 60.0, 0.5
    assert epochs.text(result) == "t0001: 50% of epoch 1, about 60 s left"
    epochs.end_epoch()
    assert epochs.text(result) == ""
    now = 90.0
    result.trials["t0001"].attempt = 2  # its heartbeat is that of the attempt before
    assert epochs.text(result) == "t0002: 10% of epoch 1"


def test_each_model_that_takes_the_lead_is_printed_once_with_the_interval_of_its_value(
    experiment: Experiment, open_driver: OpenDriver
) -> None:
    values = {"deep_cnn": 0.5, "table2": 0.4, "mnist_cnn": 0.6}
    space = SearchSpace(
        {"model.name": Choice(*values), "optimizer.lr": Float(0.001, 0.1)},
        first=[{"model.name": name} for name in ("deep_cnn", *values, "mnist_cnn")],
    )
    search = changed(experiment, space=space, base=TrialConfig(), algorithm="random", trials=5)
    driver = open_driver(changed(search, max_epochs=1))
    console = Console(file=io.StringIO(), width=200)
    driver.journal.listeners.append(Display(driver.result, 5, console).apply)
    play(
        driver, lambda config, epoch: report(epoch, values[config.model.name], "completed"), slots=1
    )
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert re.findall(r"the best so far is (\w+) \(t", printed) == ["deep_cnn", "mnist_cnn"]
    assert re.search(r"\): val accuracy [0-9.]+, 95 % interval [0-9.]+ to [0-9.]+$", printed, re.M)


@pytest.mark.parametrize(("guessed", "is_said"), [(0.001, False), (0.95, True)])
def test_a_leader_that_is_not_better_than_guessing_is_said_to_be_so(
    guessed: float, is_said: bool, experiment: Experiment, open_driver: OpenDriver
) -> None:
    space = SearchSpace({"model.name": Choice("deep_cnn", "table2")})
    driver = open_driver(changed(experiment, space=space, base=TrialConfig(), max_epochs=1))
    guess = Guess("always 'a'", {"accuracy": guessed}, {})
    driver.result.started.data["guesses"] = [asdict(guess)]
    display = Display(driver.result, 2, console := Console(file=io.StringIO(), width=200))
    driver.journal.listeners.append(display.apply)
    play(driver, slots=1)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "the best so far is" in printed
    assert (f"; not yet clearly better than guessing ({guessed:.4f})" in printed) == is_said


def test_the_table_is_drawn_again_as_the_search_goes_on_and_takes_little_of_its_time(
    experiment: Experiment, open_driver: OpenDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, clock, drawn = open_driver(experiment), 0.0, list[float]()
    monkeypatch.setattr("time.monotonic", lambda: clock)
    console = Console(file=io.StringIO(), force_terminal=True)
    with closing(Display(driver.result, 9, console)) as display:
        display.show()

        def draw_slowly() -> Text:
            nonlocal clock
            drawn.append(clock)
            clock += 0.03
            return Text("")

        monkeypatch.setattr(display.live, "get_renderable", draw_slowly)
        for _ in range(400):
            display.tick()
            clock += 0.01
    gaps = [later - earlier for earlier, later in itertools.pairwise(drawn[:-1])]
    assert len(gaps) == 2
    assert min(gaps) >= 0.03 / DRAWN_SHARE


def test_where_trials_wait_for_each_other_the_time_left_is_of_expected_epochs(
    experiment: Experiment, open_driver: OpenDriver
) -> None:
    """Hardly a trial has ended by then: that says nothing of the time left."""
    space = SearchSpace(
        {"optimizer.lr": Float(0.001, 0.1, log=True)}, base={"model.name": "deep_cnn", "epochs": 27}
    )
    base = TrialConfig().override(space.base)
    driver = open_driver(
        changed(experiment, space=space, base=base, scheduler="asha", algorithm="random", trials=60)
    )
    display = Display(driver.result, 60, Console(file=io.StringIO()))
    assert "time left unknown" in display._line()
    seen: list[tuple[int, str]] = []

    def look(event: Event) -> None:
        if event.kind == "epoch" and not seen and driver.result.epochs_trained == 120:
            display.start = time.monotonic() - 10
            seen.append(
                (
                    sum(trial.ended_ms > 0 for trial in driver.result.trials.values()),
                    display._time_left_text(),
                )
            )

    driver.journal.listeners.append(look)
    play(driver)
    ((ended, left),) = seen
    truth = 10 * (driver.result.epochs_trained / 120 - 1)
    assert ended < 6
    assert 0.5 * truth < int(left.split()[1]) < 3 * truth


def test_the_time_left_ends_with_the_budget(
    experiment: Experiment, open_driver: OpenDriver
) -> None:
    budget = Budget((limit("20epochs"),))
    driver = open_driver(changed(experiment, budget=budget))
    display = Display(driver.result, 9, Console(file=io.StringIO()))
    told: dict[int, str] = {}

    def look(event: Event) -> None:
        display.start = time.monotonic() - 300
        told[driver.result.epochs_trained] = display._time_left_text()

    driver.journal.listeners.append(look)
    play(driver)
    assert told[15] == "about 100 s left", "20 epochs of 45, of which 15 took 300 s"
    assert told[20] == FINISHING
    assert driver.result.epochs_trained < 30


def test_trials_that_could_not_be_evaluated_are_told_in_one_line(
    experiment: Experiment, open_driver: OpenDriver
) -> None:
    driver = play(open_driver(experiment))
    console = Console(file=io.StringIO(), width=200)
    driver.journal.listeners.append(Display(driver.result, 9, console).apply)
    driver.journal.append(
        Unevaluated(reasons={"it is damaged": ["t0002", "t0004"], "it is missing": ["t0001"]})
    )
    assert (
        console.file.getvalue()
        == "not evaluated: t0002 (it is damaged) and 2 more; the journal contains every reason\n"
    )  # type: ignore[attr-defined]


def test_how_far_the_evaluation_is_can_be_seen(
    experiment: Experiment, open_driver: OpenDriver
) -> None:
    driver = play(open_driver(experiment))
    trains = [True]
    display = Display(driver.result, 9, Console(file=io.StringIO()), may_train=lambda: trains[0])
    assert "waiting for the next trial" in display._line()
    trains[0] = False
    assert "waiting for the evaluation" in display._line()
    driver.journal.append(
        Evaluated(trial="t0001", epoch=driver.result.trials["t0001"].best_epoch, **evaluation())
    )
    assert "evaluated 1 of 9 on the validation set" in display._line()


def test_nothing_waits_for_a_process_to_train_in_once_a_budget_has_ended_a_search(
    experiment: Experiment, open_driver: OpenDriver
) -> None:
    driver = open_driver(changed(experiment, budget=Budget((limit("4epochs"),))))
    display = Display(
        driver.result, 9, Console(file=io.StringIO()), may_train=lambda: driver.outstanding > 0
    )
    assert driver.suggest() is not None
    assert "waiting for a training process" in display._line()
    driver.fail("t0001", "lost", "gone")
    result = play(driver).result
    assert [trial.outcome for trial in result.unfinished] == ["interrupted"]
    assert "waiting for the evaluation" in display._line()
    driver.journal.append(
        Evaluated(trial="t0001", epoch=result.trials["t0001"].best_epoch, **evaluation())
    )
    assert "evaluated 1 of 1 on the validation set" in display._line()


def test_a_failed_trial_is_told_at_once_with_its_last_line(
    experiment: Experiment, open_driver: OpenDriver
) -> None:
    driver = open_driver(experiment)
    console = Console(file=io.StringIO(), width=200)
    driver.journal.listeners.append(Display(driver.result, 9, console).apply)
    trial, _ = driver.suggest()  # type: ignore[misc]
    driver.running(trial)
    driver.fail(trial, "error", "Traceback ...\nValueError: no")
    assert "trial t0001 failed: ValueError: no" in console.file.getvalue()  # type: ignore[attr-defined]

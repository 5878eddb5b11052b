"""What a driver is asked for, what it answers, and what comes of it."""

import math
from pathlib import Path
from typing import Any

import pytest

from search.decisions.driver import Driver
from search.decisions.selection_policy import SelectionPolicy
from search.decisions.steering import is_selecting, preview_request
from search.design.budget import Budget, limit
from search.design.experiment import Experiment
from search.journal.events import Requested, Selecting
from search.journal.journal import Event, read
from search.journal.requests import EXTEND, PAUSE, STOP, DriverRequest, Unreadable
from search.journal.result import ENDED, SearchResult
from search.schedulers.registry import SCHEDULERS
from search.space import Float, SearchSpace
from tests.support.played import (
    OpenDriver,
    changed,
    decisions,
    good_lr_wins,
    play,
    reopened,
    report,
)
from trainables.config import TrialConfig
from trainables.messages import Report

PLACE = Path("searches")


def asked(action: str, **values: Any) -> DriverRequest:
    return DriverRequest.now(action, by="ada@lab", **values)


def answers(driver: Driver) -> list[Requested]:
    return [one.request for one in driver.result.requests.values()]


def begun(driver: Driver, count: int = 1, *, epochs: int = 1) -> list[str]:
    """Have so many trials train, which have reported so many epochs; return their names."""
    names = []
    for _ in range(count):
        suggestion = driver.suggest()
        assert suggestion is not None
        driver.running(suggestion[0])
        names.append(suggestion[0])
    for name in names:
        for epoch in range(1, epochs + 1):
            driver.report(name, report(epoch))
    return names


@pytest.fixture
def endless(experiment: Experiment) -> Experiment:
    """Twelve trials of a space that has more."""
    space = SearchSpace(
        {"optimizer.lr": Float(0.001, 0.1, log=True)}, base={"model.name": "deep_cnn", "epochs": 9}
    )
    return changed(
        experiment,
        space=space,
        base=TrialConfig().override(space.base),
        algorithm="random",
        trials=12,
    )


def test_a_trial_that_trains_stops_after_its_epoch(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = open_driver(experiment)
    (trial,) = begun(driver)
    assert driver.take_up(asked(STOP, trial=trial))
    assert driver.result.trials[trial].outcome == "running"
    assert driver.report(trial, report(2)), "it is over"
    ended = driver.result.trials[trial]
    assert (ended.outcome, ended.reached) == ("stopped", 2)
    assert ended.stop is not None
    assert (ended.stop.by, ended.stop.reason) == ("a request", "asked to stop by ada@lab")
    assert answers(driver)[0].answer == f"{trial} stops after epoch 2, which it is training now"


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("algorithm", ["grid", "random", "bayes"])
def test_a_search_goes_on_without_a_trial_that_was_asked_to_stop(
    open_driver: OpenDriver, experiment: Experiment, algorithm: str, scheduler: str
) -> None:
    search = changed(experiment, algorithm=algorithm, scheduler=scheduler, trials=9)
    driver = open_driver(search)
    (trial,) = begun(driver, epochs=0)
    driver.take_up(asked(STOP, trial=trial))
    driver.report(trial, report(1))
    result = play(driver).result
    assert result.outcome == "completed"
    assert result.trials[trial].reached == 1
    assert len(result.trials) == 9
    assert SearchResult.read(search.folder) == result


def test_a_trial_that_is_held_ends_at_once(open_driver: OpenDriver, experiment: Experiment) -> None:
    driver = open_driver(changed(experiment, scheduler="asha"))
    names = begun(driver, 9, epochs=0)
    for number, name in enumerate(names):
        driver.report(name, report(1, 0.9 - number / 10))
    held = next(name for name, trial in driver.trials.items() if trial.outcome == "held")
    driver.take_up(asked(STOP, trial=held))
    assert driver.result.trials[held].outcome == "stopped"
    play(driver, lambda config, epoch: report(epoch, 0.5, "completed" if epoch == 9 else None))


def test_a_trial_that_has_no_epoch_yet_and_waits_ends_at_once(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = open_driver(changed(experiment, algorithm="bayes", scheduler="asha"))
    (trial,) = begun(driver, epochs=0)
    driver.fail(trial, "lost", "its process is gone")
    driver.take_up(asked(STOP, trial=trial))
    assert driver.result.trials[trial].outcome == "stopped"
    assert math.isnan(driver.result.trials[trial].value)
    assert trial not in driver.pending
    assert play(driver).result.outcome == "completed"


def test_a_trial_that_fails_after_it_was_asked_to_stop_is_not_tried_again(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = open_driver(experiment)
    (trial,) = begun(driver)
    driver.take_up(asked(STOP, trial=trial))
    driver.fail(trial, "lost", "its process is gone")
    assert driver.result.trials[trial].outcome == "stopped"
    assert trial not in driver.pending


def test_a_search_that_is_stopped_lets_its_trials_finish_their_epoch_and_goes_on_later(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = open_driver(experiment)
    names = begun(driver, 2)
    driver.take_up(asked(STOP))
    assert driver.suggest() is None
    assert all(driver.report(name, report(2)) for name in names)
    assert not driver.interrupted, "what is trained is evaluated"
    driver.finish()
    result = driver.result
    assert (result.outcome, result.reason) == ("stopped", "asked to stop by ada@lab")
    assert result.outcome in ENDED
    assert result.is_over, "a selection may begin"
    again = play(reopened(driver))
    assert again.result.counts == {"completed": 9}
    assert again.result.outcome == "completed"


def test_a_search_that_is_paused_is_interrupted(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = open_driver(experiment)
    (trial,) = begun(driver)
    driver.take_up(asked(PAUSE))
    assert driver.report(trial, report(2))
    assert driver.interrupted
    driver.finish()
    assert (driver.result.outcome, driver.result.reason) == (
        "interrupted",
        "asked to pause by ada@lab",
    )
    assert play(reopened(driver)).result.counts == {"completed": 9}


def test_more_trials_are_proposed_once_they_are_asked_for(
    open_driver: OpenDriver, endless: Experiment
) -> None:
    driver = open_driver(changed(endless, trials=2))
    begun(driver, 2)
    assert driver.suggest() is None
    driver.take_up(asked(EXTEND, trials="+3"))
    assert driver.suggest() is not None
    assert driver.result.started.experiment["trials"] == 5
    (told,) = answers(driver)
    assert told.answer == "5 trials in total instead of 2"
    assert told.options == {"trials": "+3"}
    assert SearchResult.read(endless.folder) == driver.result


def test_fewer_trials_end_it_sooner_but_not_below_those_that_have_begun(
    open_driver: OpenDriver, endless: Experiment
) -> None:
    driver = open_driver(endless)
    begun(driver, 3)
    driver.take_up(asked(EXTEND, trials="2"))
    driver.take_up(asked(EXTEND, trials="3"))
    assert driver.suggest() is None
    refused, done = answers(driver)
    assert refused.is_refused
    assert "3 trials have already started" in refused.answer
    assert not done.is_refused


def test_a_search_that_more_trials_were_not_worth_while_for_judges_anew(
    open_driver: OpenDriver, endless: Experiment
) -> None:
    driver = open_driver(changed(endless, trials=40, min_gain=99.0))
    for request in (asked(EXTEND, trials="+5"), None):
        while (suggestion := driver.suggest()) is not None:
            driver.running(suggestion[0])
            driver.report(suggestion[0], report(1, 0.5, "completed"))
        if request is not None:
            driver.take_up(request)
    driver.finish()
    told = [event.data.ahead for event in read(driver.journal.path) if event.kind == "enough"]
    assert len(told) == 2
    assert told[1] == told[0] + 5
    assert driver.result.outcome == "gain"


def test_trials_that_a_budget_has_set_aside_go_on_with_a_larger_one(
    open_driver: OpenDriver, endless: Experiment
) -> None:
    driver = open_driver(changed(endless, trials=3, budget=Budget((limit("4epochs"),))))
    names = begun(driver, 3)
    assert all(driver.report(name, report(2)) for name in names), "each is set aside, or paused"
    assert driver.suggest() is None
    assert driver.over
    driver.take_up(asked(EXTEND, budget=("+23epochs",)))
    assert not driver.over
    result = play(driver).result
    assert result.counts == {"completed": 3}
    assert result.epochs_trained == 27
    assert result.started.experiment["budget"] == ["27 epochs"]


@pytest.mark.parametrize(
    ("values", "limits"),
    [
        ({"price": 2.0}, ["10m", "2h", "9 usd"]),
        ({"budget": ("3h",)}, ["9 usd", "3h"]),
        ({"budget": ("3h", "4h")}, ["9 usd", "3h", "4h"]),
        ({"budget": ("+1h",)}, ["70m", "3h", "9 usd"]),
        ({"budget": ("50epochs",)}, ["10m", "2h", "9 usd", "50 epochs"]),
        ({"budget": ("3h", "+1h")}, ["9 usd", "4h"]),
    ],
)
def test_an_extension_drops_no_limit_that_it_does_not_replace(
    open_driver: OpenDriver, endless: Experiment, values: dict[str, Any], limits: list[str]
) -> None:
    budget = Budget((limit("10m"), limit("2h"), limit("9usd")), 1.0)
    driver = open_driver(changed(endless, budget=budget))
    begun(driver, 2)
    driver.take_up(asked(EXTEND, **values))
    assert driver.result.started.experiment["budget"] == limits
    assert [str(one) for one in driver.experiment.budget.limits] == limits


def test_a_budget_that_is_cut_below_what_is_used_ends_the_search(
    open_driver: OpenDriver, endless: Experiment
) -> None:
    driver = open_driver(endless)
    names = begun(driver, 2, epochs=3)
    driver.take_up(asked(EXTEND, budget=("5epochs",)))
    assert all(driver.report(name, report(4)) for name in names)
    driver.finish()
    assert driver.result.outcome == "budget"


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (
            {"budget": ("+1h",)},
            "cannot be added, because the search has no limit of this kind. Set a limit with "
            "--budget 1h.",
        ),
        ({"budget": ("1 parsec",)}, "--budget must have one of these forms: 90s"),
        ({"budget": ("5usd",)}, "requires the price of one device per hour"),
        (
            {"price": 2.0},
            "--price 2 has no effect: the search has no budget in money. Add a budget",
        ),
        (
            {"trials": "1"},
            "--trials 1 is too low, because 2 trials have already started. Use at least 2.",
        ),
    ],
)
def test_what_cannot_be_is_refused_as_a_whole(
    open_driver: OpenDriver, endless: Experiment, values: dict[str, Any], why: str
) -> None:
    driver = open_driver(endless)
    begun(driver, 2)
    before = driver.experiment
    driver.take_up(asked(EXTEND, concurrency=1, **values))
    (told,) = answers(driver)
    assert told.is_refused
    assert why in told.answer
    assert driver.experiment == before
    assert driver.slots > 1


def test_a_grid_has_no_more_than_its_points(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = open_driver(experiment)
    driver.take_up(asked(EXTEND, trials="+1"))
    assert "the space has 9 points" in answers(driver)[0].answer


def test_as_many_run_at_once_as_are_asked_for_and_have_room(
    open_driver: OpenDriver, endless: Experiment
) -> None:
    driver = open_driver(endless, slots=4)
    begun(driver, 4)
    assert driver.suggest() is None
    driver.take_up(asked(EXTEND, concurrency=2))
    assert driver.slots == 2
    driver.room = 6
    driver.take_up(asked(EXTEND, concurrency=9))
    assert driver.slots == 6
    assert len(begun(driver, 2)) == 2
    assert driver.suggest() is None
    lower, higher = answers(driver)
    assert lower.answer == "2 trials at once"
    assert higher.answer == "6 trials at once, because there is no room for 9"
    assert driver.result.sessions[-1].slots == 6


def test_what_two_people_ask_at_once_is_answered_in_turn(
    open_driver: OpenDriver, endless: Experiment
) -> None:
    driver = open_driver(endless)
    (trial,) = begun(driver)
    driver.take_up(asked(STOP, trial=trial))
    driver.take_up(DriverRequest.now(STOP, trial=trial, by="bob@home"))
    driver.report(trial, report(2))
    driver.take_up(DriverRequest.now(STOP, trial=trial, by="eve@bar"))
    told = [one.answer for one in answers(driver)]
    assert told[1] == f"{trial} is already stopping (asked to stop by ada@lab)"
    assert told[2] == f"{trial} has already ended (stopped, asked to stop by ada@lab)."
    kinds = [event.kind for event in read(driver.journal.path)]
    assert kinds.count("stopped") == 1


def test_a_request_is_answered_once(open_driver: OpenDriver, endless: Experiment) -> None:
    driver = open_driver(endless)
    more = asked(EXTEND, trials="+5")
    assert driver.take_up(more)
    assert driver.take_up(more)
    again = reopened(driver)
    assert again.take_up(more, waited=True)
    assert again.result.started.experiment["trials"] == 17
    assert len(answers(again)) == 1


def test_what_is_asked_while_it_is_broken_off_is_left_for_the_next_session(
    open_driver: OpenDriver, endless: Experiment
) -> None:
    driver = open_driver(endless)
    driver.close("interrupted", "stopped by SIGINT")
    more = asked(EXTEND, trials="+5")
    assert not driver.take_up(more)
    assert driver.take_up(asked(PAUSE))
    driver.finish()
    again = reopened(Driver(changed(endless), driver.journal))
    assert again.take_up(more, waited=True)
    assert again.experiment.planned_trials == 17


def test_what_was_asked_of_another_session_does_not_hit_this_one(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = play(open_driver(experiment))
    again = reopened(driver)
    for late in (asked(STOP), asked(PAUSE)):
        again.take_up(late, waited=True)
    assert again.closing is None
    assert all("too late" in one.answer for one in answers(again))


def test_an_extension_after_the_last_trial_is_told_how_to_go_on(
    open_driver: OpenDriver, endless: Experiment
) -> None:
    driver = play(open_driver(endless))
    driver.take_up(asked(EXTEND, trials="+5", budget=("2h",)))
    (told,) = answers(driver)
    assert told.is_refused
    assert told.answer.startswith(
        "too late: the trials of 'played' have ended, and the search is being evaluated."
    )
    assert "search.resume played" in told.answer
    assert told.answer.endswith("--trials 17 --budget 2h")


def test_what_can_be_no_request_is_told_as_such(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = open_driver(experiment)
    assert driver.take_up(Unreadable("bad", "it is no JSON"))
    (told,) = answers(driver)
    assert told.is_refused
    assert SearchResult.read(experiment.folder) == driver.result


def test_a_selection_can_be_paused_and_not_changed(
    open_driver: OpenDriver, endless: Experiment
) -> None:
    searched = play(open_driver(changed(endless, trials=3)))
    driver = Driver(searched.experiment, searched.journal, SelectionPolicy)
    driver.replay(read(searched.journal.path))
    driver.journal.append(Selecting(candidates=["t0001", "t0002"], seeds=2, alpha=0.05))
    driver.go_on()
    training, _ = driver.suggest()  # type: ignore[misc]
    for one in (
        asked(STOP),
        asked(STOP, trial=training),
        asked(EXTEND, trials="+1"),
        asked(EXTEND, concurrency=1),
        asked(PAUSE),
    ):
        driver.take_up(one)
    assert [one.is_refused for one in answers(driver)] == [True, True, True, False, False]
    driver.finish()
    assert driver.result.selection is not None
    assert driver.result.selection.outcome == "interrupted"


@pytest.fixture
def selecting(open_driver: OpenDriver, endless: Experiment) -> Driver:
    """A selection that has begun its first training, of a search that has ended."""
    searched = play(open_driver(changed(endless, trials=3)))
    return selection_again(searched, cut=False)


def selection_again(driver: Driver, *, cut: bool = True) -> Driver:
    """A selection that begins, or goes on where it was paused."""
    if cut:
        driver.finish()
    journal = driver.journal
    again = Driver(driver.experiment, journal, SelectionPolicy, slots=4)
    again.replay(read(journal.path))
    journal.append(Selecting(candidates=["t0001", "t0002"], seeds=2, alpha=0.05))
    again.go_on()
    begun(again, epochs=0)
    return again


def test_what_was_asked_of_a_paused_selection_is_done_when_it_goes_on(selecting: Driver) -> None:
    selecting.take_up(asked(PAUSE))
    again = selection_again(selecting)
    assert again.take_up(asked(EXTEND, concurrency=2), waited=True)
    assert again.slots == 2
    assert not answers(again)[-1].is_refused


def test_a_selection_has_as_many_at_once_as_there_is_room_for(selecting: Driver) -> None:
    """It trains four, the search had three trials."""
    foresaw = preview_request(asked(EXTEND, concurrency=4), selecting.result, "process 1", PLACE)
    assert foresaw.text == "at most 4 trials at once"
    selecting.take_up(asked(EXTEND, concurrency=4))
    assert selecting.slots == 4


def test_of_a_paused_selection_it_is_not_said_that_it_runs(selecting: Driver) -> None:
    wanted = [asked(STOP), asked(STOP, trial="t0001"), asked(EXTEND, trials="+1")]
    for one in wanted:
        assert preview_request(one, selecting.result, "process 1", PLACE).text.startswith(
            "a selection of 'played' is running, "
        )
    selecting.take_up(asked(PAUSE))
    selecting.finish()
    for one in wanted:
        told = preview_request(one, selecting.result, "", PLACE)
        assert told.is_refused
        assert told.text.startswith("a selection of 'played' is not finished, ")
        assert "Continue the selection first: python -m search.select " in told.text


def test_a_selection_that_is_over_does_not_run(selecting: Driver) -> None:
    assert is_selecting(selecting.result)
    selecting.finish()
    told = preview_request(asked(STOP), selecting.result, "", PLACE)
    assert "has ended (completed), so there is nothing to stop" in told.text
    assert not is_selecting(selecting.result)


def test_a_signal_while_an_extension_is_written_is_not_lost(
    open_driver: OpenDriver, endless: Experiment
) -> None:
    driver = open_driver(changed(endless, trials=3, budget=Budget((limit("4epochs"),))))
    for name in begun(driver, 3):
        driver.report(name, report(2))
    assert driver.over

    def interrupt(event: Event) -> None:
        if event.kind == "requested":
            driver.close("interrupted", "stopped by SIGINT")

    driver.journal.listeners.append(interrupt)
    driver.take_up(asked(EXTEND, budget=("+23epochs",)))
    assert driver.closing == ("interrupted", "stopped by SIGINT")


def test_an_extension_after_the_budget_asks_the_scheduler_as_a_resume_does(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    told = []
    for name in ("extended", "resumed"):
        search = changed(
            experiment, name=name, scheduler="asha", budget=Budget((limit("9epochs"),))
        )
        driver = open_driver(search)
        for number, trial in enumerate(begun(driver, 9, epochs=0)):
            driver.report(trial, report(1, 0.9 - number / 10))
        assert driver.over
        if name == "extended":
            driver.take_up(asked(EXTEND, budget=("90epochs",)))
        else:
            more = changed(search, budget=Budget((limit("90epochs"),)))
            driver = reopened(Driver(more, driver.journal))
        told.append({trial.trial: trial.outcome for trial in driver.trials.values()})
    assert told[0] == told[1]
    assert "held" in told[0].values()


@pytest.mark.parametrize("then", ["interrupted", "lost"])
def test_a_stop_is_carried_out_after_an_evaluation_that_was_broken_off(
    open_driver: OpenDriver, endless: Experiment, then: str
) -> None:
    driver = open_driver(endless)
    (trial,) = begun(driver)
    driver.take_up(asked(STOP))
    driver.report(trial, report(2))
    driver.settle()
    driver.close(then, "stopped by SIGTERM")
    driver.finish()
    assert driver.result.outcome == then
    again = reopened(driver)
    assert again.suggest() is None
    again.finish()
    assert (again.result.outcome, again.result.stopping) == ("stopped", None)


def test_a_stop_of_a_trial_that_a_reader_does_not_know_is_none_of_the_search(
    open_driver: OpenDriver, endless: Experiment
) -> None:
    driver = open_driver(endless)
    (trial,) = begun(driver)
    driver.take_up(asked(STOP, trial=trial))
    result = SearchResult()
    for event in read(driver.journal.path):
        if event.kind != "suggested":
            result.apply(event)
    assert result.requests
    assert result.stopping is None


def test_a_second_pause_while_the_first_winds_up_is_told_so(
    open_driver: OpenDriver, endless: Experiment
) -> None:
    driver = open_driver(endless)
    driver.take_up(asked(PAUSE))
    driver.is_done = True
    driver.take_up(asked(PAUSE))
    told = answers(driver)[-1]
    assert told.answer == "the process of 'played' is already ending (asked to pause by ada@lab)"
    assert not told.is_refused


def test_after_memory_ran_out_fewer_run_at_once_than_are_asked_for(
    open_driver: OpenDriver, endless: Experiment
) -> None:
    driver = open_driver(endless, slots=4)
    (trial,) = begun(driver)
    driver.fail(trial, "memory", "out of memory")
    foresaw = preview_request(asked(EXTEND, concurrency=4), driver.result, "process 1", PLACE)
    driver.take_up(asked(EXTEND, concurrency=4))
    assert foresaw.text == answers(driver)[0].answer
    assert foresaw.text == f"{driver.at_once} trials at once, because memory ran out with more"


def test_where_room_is_not_known_a_number_is_the_most(
    open_driver: OpenDriver, endless: Experiment
) -> None:
    driver = open_driver(endless)
    driver.room = None
    driver.take_up(asked(EXTEND, concurrency=500))
    assert answers(driver)[0].answer == "at most 500 trials at once"


def test_the_command_with_which_it_goes_on_can_be_pasted(
    open_driver: OpenDriver, endless: Experiment
) -> None:
    driver = open_driver(endless)
    driver.take_up(asked(PAUSE))
    assert ": python -m search.resume played" in answers(driver)[0].answer


def steered(driver: Driver, requests: dict[int, DriverRequest]) -> Driver:
    """Play a search that is asked for each of these once its journal has so many lines."""

    def train(config: TrialConfig, epoch: int) -> Report:
        for number, request in requests.items():
            if driver.journal.number >= number:
                driver.take_up(request)
        return good_lr_wins(config, epoch)

    return play(driver, train)


def test_a_search_cut_off_after_any_line_carries_out_what_it_was_asked(
    open_driver: OpenDriver, endless: Experiment
) -> None:
    """Among the lines are an answer whose effect was not written yet, and a trial's stop."""
    search = changed(endless, algorithm="random", scheduler="asha", trials=4, seed=3)
    wanted = {8: asked(STOP, trial="t0001"), 9: asked(EXTEND, trials="+2")}
    whole = steered(open_driver(changed(search, name="whole")), wanted)
    lines = whole.journal.path.read_bytes().splitlines(keepends=True)
    kinds = [event.kind for event in read(whole.journal.path)]
    first = len(kinds) - kinds[::-1].index("requested")
    assert whole.result.trials["t0001"].outcome == "stopped"
    for count in [first, first + 1, first + 2, *range(first + 3, len(lines), 5)]:
        cut = open_driver(changed(search, name=f"cut{count}", trials=6))
        cut.journal.path.write_bytes(b"".join(lines[:count]))
        again = steered(reopened(cut), wanted)
        assert again.result.trials["t0001"].outcome == "stopped", lines[count - 1]
        assert len(again.result.trials) == 6, lines[count - 1]
        assert len(again.result.requests) == 2


def test_a_search_killed_while_it_stops_ends_so(
    open_driver: OpenDriver, endless: Experiment
) -> None:
    driver = open_driver(endless)
    begun(driver, 2)
    driver.take_up(asked(STOP))
    again = reopened(driver)
    assert again.suggest() is None
    again.finish()
    assert again.result.outcome == "stopped"
    found = preview_request(asked(STOP, trial="t0001"), again.result, "", PLACE)
    assert "has ended (asked to stop by ada@lab), so there is nothing to stop" in found.text
    assert reopened(again).suggest() is not None, "a resume after that goes on"


def test_a_trial_that_was_asked_to_stop_before_a_crash_trains_no_more(
    open_driver: OpenDriver, endless: Experiment
) -> None:
    driver = open_driver(endless)
    (trial,) = begun(driver)
    driver.take_up(asked(STOP, trial=trial))
    again = reopened(driver)
    assert (again.result.trials[trial].outcome, again.result.trials[trial].reached) == (
        "stopped",
        1,
    )


def test_what_would_follow_is_told_in_the_drivers_words(
    open_driver: OpenDriver, endless: Experiment
) -> None:
    driver = open_driver(endless)
    (trial,) = begun(driver)
    for request in (
        asked(STOP, trial=trial),
        asked(EXTEND, trials="+5", budget=("2h",)),
        asked(STOP, trial="t0099"),
        asked(PAUSE),
    ):
        before = preview_request(
            request, SearchResult.read(endless.folder), "process 1", endless.storage
        )
        driver.take_up(request)
        assert before.text == answers(driver)[-1].answer
        assert before.is_refused == answers(driver)[-1].is_refused


def test_more_trials_are_priced_by_those_that_have_ended(
    open_driver: OpenDriver, endless: Experiment
) -> None:
    driver = open_driver(endless)
    play(driver, events=40)
    found = preview_request(asked(EXTEND, trials="+10"), driver.result, "process 1", PLACE)
    assert found.cost == "about 90 epochs and 11 s at the pace so far"


def test_nobody_is_asked_for_what_no_driver_could_do(
    open_driver: OpenDriver, endless: Experiment
) -> None:
    driver = open_driver(endless)
    begun(driver)
    driver.result.cut_off()
    assert preview_request(asked(PAUSE), driver.result, "", PLACE).is_refused
    assert not preview_request(asked(STOP), driver.result, "", PLACE).is_refused
    over = play(open_driver(changed(endless, name="over"))).result
    assert "has ended (completed)" in preview_request(asked(STOP), over, "", PLACE).text
    told = preview_request(asked(EXTEND, trials="+5"), over, "", PLACE)
    assert told.text.startswith("too late: 'over' has ended (completed). Continue with: ")
    assert told.text.endswith("search.resume over --trials 17")


def test_a_search_of_which_requests_were_taken_up_decides_the_same_again(
    open_driver: OpenDriver, endless: Experiment
) -> None:
    search = changed(endless, algorithm="bayes", scheduler="asha", seed=3, trials=4)
    wanted = {8: asked(STOP, trial="t0002"), 20: asked(EXTEND, trials="+3")}
    one, other = (
        steered(open_driver(changed(search, name=name)), wanted) for name in ("one", "other")
    )
    assert decisions(one.experiment) == decisions(other.experiment)

import io
import threading

import pytest
from rich.console import Console

from search.display import Display
from search.experiment import Experiment
from tests.search.conftest import OpenDriver, changed, play


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_search_is_shown_on_a_terminal_and_elsewhere(experiment: Experiment, open_driver: OpenDriver, is_terminal: bool) -> None:
    driver = open_driver(changed(experiment, scheduler="asha"))
    console = Console(file=io.StringIO(), force_terminal=is_terminal, width=120)
    with Display(driver.result, 9, console) as display:
        driver.journal.listeners.append(display)
        play(driver, slots=2)
        display.say("news [with brackets]")
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "news [with brackets]" in printed
    assert ("val accuracy" in printed) == is_terminal


def test_the_table_can_be_drawn_while_the_search_goes_on(experiment: Experiment, open_driver: OpenDriver) -> None:
    driver = open_driver(experiment)
    display = Display(driver.result, 9, Console(file=io.StringIO()))
    over, errors = threading.Event(), []

    def draw() -> None:
        while not over.is_set():
            try:
                display._table()
            except RuntimeError as error:
                errors.append(error)

    thread = threading.Thread(target=draw)
    thread.start()
    play(driver, slots=3)
    over.set()
    thread.join()
    assert errors == []


def test_a_failed_trial_is_told_at_once_with_its_last_line(experiment: Experiment, open_driver: OpenDriver) -> None:
    driver = open_driver(experiment)
    console = Console(file=io.StringIO(), width=200)
    driver.journal.listeners.append(Display(driver.result, 9, console))
    trial, _ = driver.suggest()  # type: ignore[misc]
    driver.running(trial)
    driver.fail(trial, "error", "Traceback ...\nValueError: no")
    assert "trial t0001 failed: ValueError: no" in console.file.getvalue()  # type: ignore[attr-defined]

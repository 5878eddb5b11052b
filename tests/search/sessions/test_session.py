"""How a search begins and how it is wound up."""

import errno
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from threading import Event, current_thread
from types import SimpleNamespace
from typing import Any, cast

import pytest

from search.design.experiment import Experiment
from search.journal.events import EventData, Evidence, Opened, Started, Tested
from search.journal.journal import FILE_NAME, Journal, Unwritten
from search.journal.journal import Event as JournalEvent
from search.journal.lease import Lease
from search.journal.result import NO_TIME
from search.sessions.ending import interruptible, went_well, write_or_report
from search.sessions.session import clean_if_unused
from search.values.message import Remedy
from search.views.base import Finished
from search.views.outcome import print_summary
from search.views.page import artifacts, view
from search.views.page.artifacts import draw
from search.views.page.view import ReportView
from search.views.terminal import Terminal
from tests.support.played import OpenDriver, play
from tests.support.reports import evaluated


def refuse(*arguments: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_the_best_checkpoint_is_kept_also_when_no_picture_can_be_drawn(
    open_driver: OpenDriver, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = play(open_driver(experiment))
    result, best = driver.result, driver.result.best
    assert best is not None
    heard: list[EventData] = []
    driver.journal.listeners.append(lambda event: heard.append(event.data))
    with monkeypatch.context() as patched:
        patched.setattr(artifacts.figures, "save", refuse)
        with pytest.raises(OSError, match="No space left"):
            draw(result, experiment.home, driver.journal)
    checkpoint = f"trials/{best.trial}/epoch-{best.best_epoch:04d}"
    assert heard == [Evidence(best.trial, checkpoint, "checkpoint")]
    assert not result.is_drawn
    draw(result, experiment.home, driver.journal)
    assert result.is_drawn


def test_pictures_without_the_test_are_drawn_once_and_while_it_runs(
    open_driver: OpenDriver, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = play(open_driver(experiment))
    best, result = driver.result.best, driver.result
    assert best is not None
    done: list[object] = []
    whole = artifacts.draw_untested

    def counted(*given: Any, **named: Any) -> Any:
        done.append(current_thread())
        return whole(*given, **named)

    monkeypatch.setattr(artifacts, "draw_untested", counted)
    page = ReportView(driver)
    driver.journal.listeners.append(page.apply)
    driver.journal.append(Opened(trial=best.trial, epoch=best.best_epoch, by="search.run"))
    assert page.drawn() is not None
    driver.journal.append(
        Tested(
            trial=best.trial,
            epoch=best.best_epoch,
            test=evaluated(("a", "b")),
            passed_over={},
        )
    )
    draw(result, experiment.home, driver.journal, drawn=page.drawn())
    assert len(done) == 1
    assert done[0] is not current_thread()
    folder = experiment.home.folder / "trials" / best.trial / "evidence"
    assert {file.name for file in folder.iterdir()} >= {
        "curves.png",
        "test_confusion.png",
        "config.json",
        "test.json",
    }
    draw(result, experiment.home, driver.journal, few=True, drawn=page.drawn())
    assert len(done) == 1, "it has become late meanwhile, and more is drawn than is wanted"
    # Its answer is another now.
    result.tested = replace(result.tested, passed_over={"t0001": "damaged"})
    draw(result, experiment.home, driver.journal, drawn=page.drawn())
    assert len(done) == 2


def test_what_goes_wrong_aside_is_told_when_the_pictures_are_drawn(
    open_driver: OpenDriver, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = play(open_driver(experiment))
    monkeypatch.setattr(artifacts.figures, "png", refuse)
    page = ReportView(driver)
    page.apply(JournalEvent(1, 1, Opened("t0001")))
    assert page.drawn() is None
    with pytest.raises(OSError, match="No space left"):
        draw(driver.result, experiment.home, driver.journal, drawn=page.drawn())


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "full"), Unwritten("the journal cannot be written")]
)
def test_a_step_that_a_disk_refuses_is_told_and_does_not_end_the_others(error: Exception) -> None:
    def write() -> None:
        raise error

    troubles: list[str] = []
    write_or_report(troubles, "the pictures", write)
    assert troubles == [
        f"the pictures could not be written ({error}). All results are in the journal."
    ]


def test_a_search_that_never_began_leaves_its_name_free(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    with Lease(folder), clean_if_unused(folder):
        Journal(folder).close()
    assert not folder.exists()
    with Lease(folder), clean_if_unused(folder):
        journal = Journal(folder)
        journal.append(Started())
        journal.close()
    assert (folder / FILE_NAME).exists()


def test_what_the_pictures_need_is_imported_while_the_last_trials_train(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    imported = Event()
    monkeypatch.setattr(view, "import_evidence", imported.set)
    driver = SimpleNamespace(
        trials=range(12), outstanding=12, at_once=2, result=SimpleNamespace(epochs_trained=0)
    )
    page = ReportView(cast("Any", driver))
    for outstanding, epochs in ((12, 3), (2, 0)):  # many are to come; workers are still starting
        driver.outstanding, driver.result.epochs_trained = outstanding, epochs
        page.tick()
        assert not imported.is_set()
    driver.result.epochs_trained = 20
    page.tick()
    assert imported.wait(10)
    imported.clear()
    page.tick()
    assert not imported.wait(0.1)


def test_an_import_that_the_end_of_the_process_breaks_off_says_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "search.views.page.artifacts", None)
    view.import_evidence()


@pytest.mark.parametrize(
    ("troubles", "reasons", "outcome", "well"),
    [
        ([], {}, "completed", True),
        ([], {NO_TIME: ["t0001"]}, "completed", True),
        (["Ray failed (raylet died)"], {}, "completed", False),
        ([], {"Ray failed (raylet died)": ["t0001"]}, "completed", False),
        ([], {}, "lost", False),
    ],
)
def test_rays_logs_are_kept_where_something_went_wrong(
    troubles: list[str], reasons: dict[str, list[str]], outcome: str, well: bool
) -> None:
    result: Any = SimpleNamespace(unevaluated=reasons, outcome=outcome)
    assert went_well(result, troubles) is well


def test_pictures_and_importances_need_no_scikit_learn() -> None:
    code = (
        "import sys, search.views.page.artifacts; "
        "print(any(name.startswith('sklearn') for name in sys.modules), "
        "'matplotlib.figure' in sys.modules, 'optuna.importance' in sys.modules); "
        "import sklearn.ensemble"
    )
    assert subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split() == ["False", "True", "True"]


LEAVES = """
import atexit, threading
from search.process.lifetime import leave
leaving = threading.Event()
atexit.register(print, "registered")
threading.Thread(target=lambda: (leaving.wait(), print("a thread"))).start()
class Late:
    def __del__(self):
        print("taken apart")
late = Late()
print("said")
leaving.set()
leave(3)
"""


def test_a_command_leaves_with_its_exit_code_and_all_that_was_to_be_done() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LEAVES], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.split(), done.stderr) == (
        3,
        ["said", "a", "thread", "registered"],
        "",
    )


@pytest.mark.parametrize(
    ("has_trained", "is_done", "words"),
    [
        (False, False, "stopping: each trial finishes its current epoch"),
        (True, False, "stopping: the evaluation is interrupted"),
        (True, True, "stopping after all results are written"),
    ],
)
def test_a_signal_is_answered_with_what_it_leads_to_now(
    has_trained: bool,
    is_done: bool,
    words: str,
    open_driver: OpenDriver,
    experiment: Experiment,
) -> None:
    driver, said = open_driver(experiment), list[str]()
    driver.has_trained, driver.is_done = has_trained, is_done
    with interruptible(driver, said.append, "GO ON") as came:
        os.kill(os.getpid(), signal.SIGINT)
    assert (came, len(said)) == ([signal.SIGINT], 1)
    assert said[0].startswith(words)
    assert said[0].endswith("GO ON") == has_trained
    assert driver.closing == ("interrupted", "stopped by SIGINT")


def test_a_search_that_was_stopped_after_its_last_trial_says_how_to_go_on(
    open_driver: OpenDriver, experiment: Experiment, capsys: pytest.CaptureFixture[str]
) -> None:
    driver = open_driver(experiment)
    driver.finish = lambda: None  # type: ignore[method-assign]  # played until all trials are over
    play(driver)
    del driver.finish
    driver.close("interrupted", "stopped by SIGINT")
    driver.finish()
    where = {"tracking_uri": "http://127.0.0.1:9", "experiment_id": "", "parent_run_id": ""}
    print_summary(Finished(experiment, driver.result, where, 130, 1.0), Terminal())
    assert (
        f"continue {Remedy('resume', experiment.name, experiment.storage)}"
        in capsys.readouterr().out
    )

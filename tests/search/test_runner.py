"""How a search begins and how it is wound up."""

import errno
from pathlib import Path

import pytest

from search import evidence
from search.evidence import draw
from search.experiment import Experiment
from search.journal import FILE_NAME, Journal, Unwritten
from search.lease import Lease
from search.runner import clean_if_unused, tried
from tests.search.conftest import OpenDriver, play


def refuse(*arguments: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_the_best_checkpoint_is_kept_also_when_no_picture_can_be_drawn(
    open_driver: OpenDriver, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = play(open_driver(experiment))
    result, best = driver.result, driver.result.best
    assert best is not None
    heard: list[dict[str, object]] = []
    driver.journal.listeners.append(lambda event: heard.append(event.data))
    with monkeypatch.context() as patched:
        patched.setattr(evidence.figures, "save", refuse)
        with pytest.raises(OSError, match="No space left"):
            draw(result, experiment.home, driver.journal)
    assert heard == [{"trial": best.trial, "file": f"trials/{best.trial}/epoch-{best.best_epoch:04d}", "path": "checkpoint"}]
    assert not result.is_drawn
    draw(result, experiment.home, driver.journal)
    assert result.is_drawn


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), Unwritten("the journal cannot be written")])
def test_a_step_that_a_disk_refuses_is_told_and_does_not_end_the_others(error: Exception) -> None:
    def write() -> None:
        raise error

    troubles: list[str] = []
    tried(troubles, "the pictures", write)
    assert troubles == [f"the pictures could not be written ({error}). The journal has everything."]


def test_a_search_that_never_began_leaves_its_name_free(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    with Lease(folder), clean_if_unused(folder):
        Journal(folder).close()
    assert not folder.exists()
    with Lease(folder), clean_if_unused(folder):
        journal = Journal(folder)
        journal.append("started")
        journal.close()
    assert (folder / FILE_NAME).exists()

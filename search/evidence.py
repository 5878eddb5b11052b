"""What a search leaves to look at: the answer's checkpoint, config and test, the pictures, and the page."""

import json
from pathlib import Path

from search.home import TRIALS, Home
from search.journal import Journal
from search.report import curves, figures, importance, quality
from search.report.page import write
from search.result import PAGE, PICTURES, SearchResult, TrialResult
from search.summary import TOP, checkpoint_of


def get_ready(trials: int) -> None:
    """Import what the pictures of so many trials take, all of it: what another thread imports just then is waited for."""
    importance.get_ready(trials)


def draw(result: SearchResult, home: Home, journal: Journal, *, few: bool = False) -> None:
    """The answer's evidence, the pictures and the page, into the search's folder; the journal says that they are worth keeping. The search's own
    picture comes last: with it, everything is drawn. Where `few` are wanted, for want of time, the other best trials' are left out.
    """
    answer = result.chosen
    if answer is None:
        return
    folder, checkpoint = home.folder, str(checkpoint_of(answer, Path()))
    others = [] if few else result.ranking[:TOP]
    shown = [answer, *(trial for trial in others if trial is not answer)]
    home.fetch(checkpoint, *(f"{TRIALS}/{trial.trial}/evidence" for trial in shown))
    journal.append("evidence", trial=answer.trial, file=checkpoint, path="checkpoint")
    for trial in shown:
        own = Path(TRIALS) / trial.trial / "evidence"
        figures.save(curves.trial_curves(trial), folder / own / "curves.png")
        if trial is answer:
            _evidence(answer, result, folder / own)
        home.keep(str(own))
        journal.append("evidence", trial=trial.trial, file=str(own), path="")
    write(result, folder, folder / PAGE)
    figures.save(curves.search_curves(result), folder / PICTURES / "curves.png")
    home.keep(PAGE, PICTURES)
    journal.append("evidence", trial="", file=PAGE, path="")
    journal.append("evidence", trial="", file=PICTURES, path="")


def _evidence(answer: TrialResult, result: SearchResult, own: Path) -> None:
    """The answer's config, and how it did on the test part; its worker wrote that with images, which a search of an earlier version lacks."""
    test = result.chosen_test
    (own / "config.json").write_text(json.dumps(answer.config, indent=1))
    if test:
        if not (own / "test.json").exists():
            (own / "test.json").write_text(json.dumps(test, indent=1))
        figures.save(quality.confusion(test), own / "test_confusion.png")
        figures.save(quality.roc(test), own / "test_roc.png")

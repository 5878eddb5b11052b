"""What a search leaves to look at: the best trial's checkpoint, config and test, and the pictures."""

import json
from pathlib import Path

from search.journal import Journal
from search.report import figures
from search.result import SearchResult, TrialResult
from search.summary import TOP, checkpoint_of


def draw(result: SearchResult, folder: Path, journal: Journal) -> None:
    """The best trial's evidence and the pictures, into the search's folder; the journal says that they are worth keeping. The search's own
    picture comes last: with it, everything is drawn.
    """
    best = result.best
    if best is None:
        return
    journal.append("evidence", trial=best.trial, file=str(checkpoint_of(best, Path())), path="checkpoint")
    for trial in [best, *(trial for trial in result.ranking[:TOP] if trial is not best)]:
        own = Path("trials") / trial.trial / "evidence"
        figures.save(figures.trial_curves(trial), folder / own / "curves.png")
        if trial is best:
            _best_evidence(best, result, folder / own)
        journal.append("evidence", trial=trial.trial, file=str(own), path="")
    figures.save(figures.search_curves(result), folder / "pictures" / "curves.png")
    journal.append("evidence", trial="", file="pictures", path="")


def _best_evidence(best: TrialResult, result: SearchResult, own: Path) -> None:
    test = result.test
    (own / "config.json").write_text(json.dumps(best.config, indent=1))
    if test:
        (own / "test.json").write_text(json.dumps(test, indent=1))
        figures.save(figures.confusion(test), own / "test_confusion.png")
        figures.save(figures.roc(test), own / "test_roc.png")

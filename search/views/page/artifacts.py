"""Artifacts that a search leaves: the checkpoint, config and test, the pictures and the page.

Checkpoint, config and test are the answer's.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from search.journal.events import Evidence
from search.journal.journal import Journal
from search.journal.result import PAGE, PICTURES, SearchResult, TrialResult, checkpoint_of
from search.journal.store import TRIALS, Home
from search.views.page import curves, figures, importance, page
from search.views.page.answer import evidence
from search.views.page.figures import Picture
from search.views.page.templates import template
from search.views.summary import TOP


def get_ready(trials: int) -> None:
    """Import everything that the pictures of this many trials need.

    It waits for modules that another thread is importing at that moment.
    """
    importance.get_ready(trials)


@dataclass(frozen=True)
class Drawn:
    """The pictures for which the test is not needed."""

    about: tuple[object, ...]
    """The facts that the pictures depend on (`_about`)."""
    pictures: dict[str, Picture]
    trials: dict[str, bytes]
    """The learning curves of each shown trial, as a PNG file."""


def draw_untested(result: SearchResult, *, few: bool = False) -> Drawn:
    """Draw all pictures but those of the answer's test, in memory.

    If only a `few` are wanted, because time is short, those of the other best trials are left out.
    """
    template(page.TEMPLATE)  # compiled now, while the search still waits
    about, shown = _about(result), _shown(result, few)
    pictures = page.of_search(result, as_file=True) | page.of_training(result, as_file=True)
    drawn = {
        trial.trial: figures.png(curves.trial_curves(trial))
        for trial in shown
        if trial is not result.chosen or "own" not in pictures
    }
    if "own" in pictures and result.chosen is not None:
        drawn[result.chosen.trial] = pictures["own"].png
    return Drawn(about, pictures, drawn)


def draw(
    result: SearchResult,
    home: Home,
    journal: Journal,
    *,
    few: bool = False,
    drawn: Drawn | None = None,
) -> None:
    """Write the answer's evidence, the pictures and the page into the search's folder.

    The journal says that they are worth keeping. The search's own picture comes last: once it is
    there, everything is drawn.

    Args:
        few: leave out the pictures of the other best trials, because time is short.
        drawn: pictures that are drawn already; used if they still show this answer.
    """
    answer = result.chosen
    if answer is None:
        return
    folder, checkpoint, shown = home.folder, str(checkpoint_of(answer, Path())), _shown(result, few)
    home.fetch(checkpoint, *(f"{TRIALS}/{trial.trial}/evidence" for trial in shown))
    journal.append(Evidence(answer.trial, checkpoint, "checkpoint"))
    if (
        drawn is None
        or drawn.about != _about(result)
        or not drawn.trials.keys() >= {trial.trial for trial in shown}
    ):
        drawn = draw_untested(result, few=few)
    tested = page.of_answer(evidence(result, folder), as_file=True)
    for trial in shown:
        own = Path(TRIALS) / trial.trial / "evidence"
        figures.save(drawn.trials[trial.trial], folder / own / "curves.png")
        if trial is answer:
            _evidence(answer, result, folder / own, tested)
        home.keep(str(own))
        journal.append(Evidence(trial.trial, str(own), ""))
    page.write(result, folder, folder / PAGE, drawn.pictures | tested)
    figures.save(drawn.pictures["curves"].png, folder / PICTURES / "curves.png")
    home.keep(PAGE, PICTURES)
    journal.append(Evidence("", PAGE, ""))
    journal.append(Evidence("", PICTURES, ""))


def _shown(result: SearchResult, few: bool) -> list[TrialResult]:
    """Return the trials with pictures of their own: the answer and others among the best."""
    answer = result.chosen
    others = [] if few else result.ranking[:TOP]
    return [
        *([answer] if answer is not None else []),
        *(trial for trial in others if trial is not answer),
    ]


def _about(result: SearchResult) -> tuple[object, ...]:
    """Return the facts that the pictures depend on.

    They are the answer, the trials in order, and the trials that were passed over.
    """
    answer = result.chosen.trial if result.chosen is not None else ""
    return (answer, *(trial.trial for trial in result.ranking), sorted(result.passed_over))


def _evidence(
    answer: TrialResult, result: SearchResult, own: Path, tested: dict[str, Picture]
) -> None:
    """Write the answer's config, its test result and the pictures of that.

    The worker has written the result already, with images, except in a search of an earlier
    version.
    """
    test = result.chosen_test
    (own / "config.json").write_text(json.dumps(answer.config, indent=1))
    if test:
        if not (own / "test.json").exists():
            (own / "test.json").write_text(json.dumps(test, indent=1))
        for name in tested.keys() & {"confusion", "roc"}:
            figures.save(tested[name].png, own / f"test_{name}.png")

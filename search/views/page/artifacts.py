"""Writes the artifacts of a search: plots, the page, and the answer's config and test result."""

import json
from dataclasses import dataclass
from pathlib import Path

from search.facts.answer import evidence
from search.facts.trials import TOP
from search.journal.events import Evidence
from search.journal.journal import Journal
from search.journal.result import PAGE, PICTURES, SearchResult, TrialResult, checkpoint_of
from search.journal.store import TRIALS, Home
from search.views.page import curves, figures, page
from search.views.page.figures import Picture
from search.views.page.templates import template


@dataclass(frozen=True)
class DrawnPictures:
    """The pictures that do not need the test result."""

    dependencies: tuple[object, ...]
    """The facts that the pictures depend on (`_dependencies`)."""
    pictures: dict[str, Picture]
    trials: dict[str, bytes]
    """The learning curves of the best trials as PNG files, by the trial's name."""


def draw_untested(result: SearchResult, *, few: bool = False) -> DrawnPictures:
    """Draw all pictures in memory, except those of the answer's test.

    With `few`, learning curves are drawn only for the answer, and not for the other best trials.
    """
    template(page.TEMPLATE)  # compile the template now, while the search waits for the test
    dependencies, illustrated = _dependencies(result), _illustrated_trials(result, few)
    pictures = page.of_search(result, as_file=True) | page.of_training(result, as_file=True)
    drawn = {
        trial.trial: figures.png(curves.trial_curves(trial))
        for trial in illustrated
        if not trial.members and (trial is not result.chosen or "own" not in pictures)
    }
    if "own" in pictures and result.chosen is not None:
        drawn[result.chosen.trial] = pictures["own"].png
    return DrawnPictures(dependencies, pictures, drawn)


def draw(
    result: SearchResult,
    home: Home,
    journal: Journal,
    *,
    few: bool = False,
    drawn: DrawnPictures | None = None,
) -> None:
    """Write the answer's evidence, the pictures and the page into the search's folder.

    Each is recorded in the journal as an artifact (`Evidence`). The pictures of the whole search
    are recorded last: if they are in the journal, all other artifacts are complete.

    Args:
        result: the search.
        home: the storage of the search.
        journal: the journal, in which the artifacts are recorded.
        few: True to draw learning curves only for the answer, to save time.
        drawn: pictures that were drawn in advance; they are drawn again if the answer or the
            ranking has changed.
    """
    answer = result.chosen
    if answer is None:
        return
    folder, checkpoint, illustrated = (
        home.folder,
        str(checkpoint_of(answer, Path())),
        _illustrated_trials(result, few),
    )
    home.fetch(checkpoint, *(f"{TRIALS}/{trial.trial}/evidence" for trial in illustrated))
    journal.append(Evidence(answer.trial, checkpoint, "checkpoint"))
    if (
        drawn is None
        or drawn.dependencies != _dependencies(result)
        or not drawn.trials.keys() >= {each.trial for each in illustrated if not each.members}
    ):
        drawn = draw_untested(result, few=few)
    tested = page.of_answer(evidence(result, folder), as_file=True)
    for trial in illustrated:
        own = Path(TRIALS) / trial.trial / "evidence"
        if not trial.members:
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


def _illustrated_trials(result: SearchResult, few: bool) -> list[TrialResult]:
    """List the trials that get pictures of their own: the answer, then the other best trials.

    With `few`, the list contains only the answer.
    """
    answer = result.chosen
    best = [] if few else result.ranking[:TOP]
    return [
        *([answer] if answer is not None else []),
        *(trial for trial in best if trial is not answer),
    ]


def _dependencies(result: SearchResult) -> tuple[object, ...]:
    """Return the facts on which the pictures depend: answer, ranking and damaged checkpoints."""
    answer = result.chosen.trial if result.chosen is not None else ""
    return (answer, *(trial.trial for trial in result.ranking), sorted(result.passed_over))


def _evidence(
    answer: TrialResult, result: SearchResult, own: Path, tested: dict[str, Picture]
) -> None:
    """Write the answer's config, its test result and the pictures of the test.

    If the worker has written a test result, which also contains example images, that file stays.
    """
    test = result.chosen_test
    (own / "config.json").write_text(json.dumps(answer.config, indent=1))
    if test:
        if not (own / "test.json").exists():
            (own / "test.json").write_text(json.dumps(test, indent=1))
        for name in tested.keys() & {"confusion", "roc"}:
            figures.save(tested[name].png, own / f"test_{name}.png")

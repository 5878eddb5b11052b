"""Checkpoints that nothing of a search needs any more: which they are, and their removal.

A trial that waits, at a rung or for a resume, goes on from its newest checkpoint, however long it
has waited: the scheduler may change its mind until the search's end, and a larger budget may come
after it. So none of it goes before. What a completed trial has stays too: a longer training goes
on from it, of a later search as well. A trial that was stopped at the search's end, diverged or
failed goes no further. Of one that diverged or failed, a longer trial of the same training may
still go on while the search runs; where there are none, its checkpoints go at once.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from search.journal.events import Freed
from search.journal.pareto import front
from search.journal.result import FAILED, UNFINISHED, SearchResult, TrialResult
from search.journal.store import Home
from search.space import SearchSpace
from trainables.catalog.ranking import rank

NEEDED, ALL, ANSWER = "needed", "all", "answer"
KEEP = (NEEDED, ALL)
"""The checkpoints that a search keeps at its end (`--keep`)."""
KEEP_HELP = "checkpoints kept at the end: needed (those of stopped trials go), or all"
CLEANED = (NEEDED, ANSWER)
"""Those that `search.clean` keeps."""


@dataclass(frozen=True)
class Kind:
    """Checkpoints of one kind of trial."""

    title: str
    lost: str
    """The uses that are lost without them."""

    def counted(self, count: int) -> str:
        """Return so many of them as text: `1 stopped trial`."""
        return f"{count} {self.title if count != 1 else self.title.removesuffix('s')}"


LOST = Kind("diverged or failed trials", "nothing")
STOPPED = Kind("stopped trials", "to promote one; another search trains them again")
COMPLETED = Kind("completed trials", STOPPED.lost)
WAITING = Kind("trials that can be resumed", "a resume trains them again from epoch 1")
RACED = Kind("others of the selection", "a race with more seeds trains those it cut off again")
EPOCHS = Kind("other epochs of those that stay", "a longer training begins again at epoch 1")


@dataclass(frozen=True)
class Removable:
    """Checkpoints of a trial that may go."""

    trial: str
    kind: Kind
    names: list[str]
    size: int
    """Their bytes."""
    is_all: bool
    """True if the trial has no other."""


def goes_at_once(space: SearchSpace) -> bool:
    """Return whether no trial of this space goes on from one that has failed."""
    return "epochs" not in space.domains


def removable(
    result: SearchResult, home: Home, keep: str, *, among: Collection[str] | None = None
) -> list[Removable]:
    """Return the checkpoints that may go, if those are kept that `keep` names (`CLEANED`).

    `among` are the trials that are looked at; None for all.

    Raises:
        OSError: the storage refuses.
    """
    goes = {
        trial.trial: (kind, kept)
        for trial, kind, kept in _goes(result, keep)
        if among is None or trial.trial in among
    }
    found = home.checkpoints(goes) if goes else {}
    made = []
    for trial, sizes in found.items():
        kind, kept = goes[trial]
        if names := [name for name in sizes if name != kept]:
            size = sum(sizes[name] for name in names)
            made.append(Removable(trial, kind, names, size, len(names) == len(sizes)))
    return made


def _goes(result: SearchResult, keep: str) -> Iterator[tuple[TrialResult, Kind, str]]:
    """Yield the trials of which checkpoints may go, and the name of the one that stays."""
    answers = {trial.trial for trial in (result.chosen, result.best) if trial is not None}
    named = answers | {trial.trial for trial in front(result)} | _next_best(result)
    repeats = result.selection.repeats if result.selection is not None else {}
    finalists = _finalists(repeats.values())
    for trial in (*result.trials.values(), *repeats.values()):
        if trial.outcome in FAILED:
            yield trial, LOST, ""
        elif keep == NEEDED:
            if trial.outcome == "stopped" and trial.evaluation and trial.trial not in named:
                yield trial, STOPPED, ""
        elif trial.trial in answers | finalists:
            yield trial, EPOCHS, f"epoch-{trial.best_epoch:04d}"
        elif not trial.repeat_of and trial.outcome not in UNFINISHED and not trial.evaluation:
            continue  # a resume evaluates it
        else:
            yield trial, _kind(trial), ""


def _next_best(result: SearchResult) -> set[str]:
    """Return the best trial that has ended: the answer, if a better one diverges later."""
    ended = (
        trial.trial
        for trial in result.ranking
        if trial.outcome not in UNFINISHED and trial.trial not in result.passed_over
    )
    return set(islice(ended, 1))


def _finalists(repeats: Iterable[TrialResult]) -> set[str]:
    """Return the best training of each candidate: another race may choose any candidate."""
    best = dict[str, TrialResult]()
    for trial in repeats:
        known = best.get(trial.repeat_of)
        if trial.outcome == "completed" and (known is None or _rank(trial) > _rank(known)):
            best[trial.repeat_of] = trial
    return {trial.trial for trial in best.values()}


def _rank(trial: TrialResult) -> tuple[float, ...]:
    return rank(trial.best, trial.metric)


def _kind(trial: TrialResult) -> Kind:
    """Return the kind of a trial that is not the answer, and has not failed."""
    if trial.repeat_of:
        return RACED
    if trial.outcome in UNFINISHED:
        return WAITING
    return STOPPED if trial.outcome == "stopped" else COMPLETED


def freed(found: Iterable[Removable], keep: str) -> Freed:
    """Return the event that these checkpoints go, which is journaled before they do."""
    each = list(found)
    gone = [one.trial for one in each if one.is_all]
    return Freed(gone, keep, sum(one.size for one in each))


def remove(home: Home, found: Iterable[Removable]) -> None:
    """Remove these checkpoints; one that is gone already is passed over.

    Raises:
        OSError: the storage refuses.
    """
    for one in found:
        home.drop(one.trial, one.names)


def by_kind(found: Iterable[Removable]) -> Mapping[Kind, tuple[int, int]]:
    """Return the number of trials and the bytes of each kind, the largest first."""
    trials, sizes = Counter[Kind](), Counter[Kind]()
    for one in found:
        trials[one.kind] += 1
        sizes[one.kind] += one.size
    return {kind: (trials[kind], size) for kind, size in sizes.most_common()}

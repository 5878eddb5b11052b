"""Finds and removes the checkpoints that a search no longer needs.

The checkpoints of some trials stay:

- A trial that waits at a rung or for a resume continues from its newest checkpoint. The scheduler
  may promote it until the search ends, and later a resume with a larger budget may continue it.
- A completed trial may be the start of a longer training, also in a later search.

Trials that diverged, failed, or were stopped at the end of the search do not continue. But while
the search runs, a longer trial may continue from the checkpoint of a diverged or failed one. If no
trials of the space differ only in length, this cannot happen, and the checkpoints of diverged and
failed trials are removed at once.
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

NEEDED, ALL, ANSWER = "needed", "all", "answer"
KEEP = (NEEDED, ALL)
"""The values of `--keep`: the checkpoints that stay when a search ends."""
KEEP_HELP = "checkpoints to keep at the end: needed (not those of stopped trials), or all"
CLEANED = (NEEDED, ANSWER)
"""The values of `search.clean --keep`."""


@dataclass(frozen=True)
class Kind:
    """A kind of trial whose checkpoints may be removed, as texts for the user."""

    title: str
    lost: str
    """What is no longer possible after these checkpoints are removed."""

    def counted(self, count: int) -> str:
        """Format a number of such trials, such as `1 stopped trial`."""
        noun, *rest = self.title.split(" that ", 1)
        return " that ".join([f"{count} {noun if count != 1 else noun.removesuffix('s')}", *rest])


LOST = Kind("diverged or failed trials", "nothing")
STOPPED = Kind("stopped trials", "promoting them; another search trains them again")
COMPLETED = Kind("completed trials", STOPPED.lost)
WAITING = Kind("trials that can be resumed", "a resume trains them again from epoch 1")
COMBINED = Kind("ensembles that are not the answer", "improving models promoted from them")
RACED = Kind("others of the selection", "a race with more seeds trains the interrupted ones again")
EPOCHS = Kind("other epochs of those that stay", "a longer training starts again at epoch 1")


@dataclass(frozen=True)
class Removable:
    """The checkpoints of one trial that may be removed."""

    trial: str
    kind: Kind
    names: list[str]
    """The names of the checkpoints, such as `epoch-0003`."""
    size: int
    """The total size of these checkpoints in bytes."""
    is_all: bool
    """True if these are all checkpoints of the trial."""


def can_free_failed_at_once(space: SearchSpace) -> bool:
    """True if no trial can continue from a failed one, since no trials differ only in length."""
    return "epochs" not in space.domains


def find_removable(
    result: SearchResult, home: Home, keep: str, *, among: Collection[str] | None = None
) -> list[Removable]:
    """Find the checkpoints that may be removed.

    Args:
        result: the search.
        home: the storage of the search.
        keep: the checkpoints that stay, one of `CLEANED`.
        among: the names of the trials to check; None for all.
    """
    allowed = {
        trial.trial: (kind, kept_name)
        for trial, kind, kept_name in _trials_to_free(result, keep)
        if among is None or trial.trial in among
    }
    sizes_by_trial = home.checkpoints(allowed) if allowed else {}
    entries = []
    for trial, sizes in sizes_by_trial.items():
        kind, kept_name = allowed[trial]
        if names := [name for name in sizes if name != kept_name]:
            size = sum(sizes[name] for name in names)
            entries.append(Removable(trial, kind, names, size, len(names) == len(sizes)))
    return entries


def _trials_to_free(result: SearchResult, keep: str) -> Iterator[tuple[TrialResult, Kind, str]]:
    """Yield (trial, kind, name of the checkpoint that stays, or "") for each trial to clean."""
    answers = {trial.trial for trial in (result.chosen, result.best) if trial is not None}
    members = set(result.combined.members) if result.combined is not None else set[str]()
    protected = answers | {trial.trial for trial in front(result)} | _next_best(result) | members
    selection = result.selection
    finalists = _finalists(selection.repeats.values() if selection is not None else ())
    again = selection.trainings.values() if selection is not None else ()
    for trial in (*result.trials.values(), *again, *result.ensembles.values()):
        if trial.outcome in FAILED:
            yield trial, LOST, ""
        elif keep == NEEDED:
            if trial.outcome == "stopped" and trial.evaluation and trial.trial not in protected:
                yield trial, STOPPED, ""
        elif trial.trial in answers | finalists:
            yield trial, EPOCHS, f"epoch-{trial.best_epoch:04d}"
        elif trial.trial in result.ensembles:
            yield trial, COMBINED, ""
        elif not trial.repeat_of and trial.outcome not in UNFINISHED and not trial.evaluation:
            continue  # a resume evaluates it, and needs its checkpoint
        else:
            yield trial, _kind(trial), ""


def _next_best(result: SearchResult) -> set[str]:
    """Return the name of the best trial that has ended, as a set; empty if there is none.

    It becomes the answer if all better trials, which have not ended, diverge.
    """
    ended = (
        trial.trial
        for trial in result.ranking
        if trial.outcome not in UNFINISHED and trial.trial not in result.passed_over
    )
    return set(islice(ended, 1))


def _finalists(repeats: Iterable[TrialResult]) -> set[str]:
    """Return the name of each candidate's best completed training.

    If the selection is repeated with more seeds, it may choose any of them.
    """
    best = dict[str, TrialResult]()
    for trial in repeats:
        leader = best.get(trial.repeat_of)
        if trial.outcome == "completed" and (leader is None or _rank(trial) > _rank(leader)):
            best[trial.repeat_of] = trial
    return {trial.trial for trial in best.values()}


def _rank(trial: TrialResult) -> tuple[float, ...]:
    return trial.metric.rank(trial.best)


def _kind(trial: TrialResult) -> Kind:
    """Return the kind of a trial that is not the answer and has not failed."""
    if trial.repeat_of:
        return RACED
    if trial.outcome in UNFINISHED:
        return WAITING
    return STOPPED if trial.outcome == "stopped" else COMPLETED


def freed_event(removable: Iterable[Removable], keep: str) -> Freed:
    """Create the event that records a removal; write it before the checkpoints are removed."""
    entries = list(removable)
    emptied = [entry.trial for entry in entries if entry.is_all]
    return Freed(emptied, keep, sum(entry.size for entry in entries))


def remove(home: Home, removable: Iterable[Removable]) -> None:
    """Remove these checkpoints from the storage; those that no longer exist are ignored."""
    for entry in removable:
        home.drop(entry.trial, entry.names)


def totals_by_kind(removable: Iterable[Removable]) -> Mapping[Kind, tuple[int, int]]:
    """Return (number of trials, bytes) by kind, the kind with the most bytes first."""
    trials, sizes = Counter[Kind](), Counter[Kind]()
    for entry in removable:
        trials[entry.kind] += 1
        sizes[entry.kind] += entry.size
    return {kind: (trials[kind], size) for kind, size in sizes.most_common()}

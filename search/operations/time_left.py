"""Uses the time that a search with an adaptive space leaves of its budget.

Its best trials are trained again with fresh seeds (`search.decisions.selection`), as many of them
and as often as the time allows.
"""

from dataclasses import replace

from cluster.errors import NotReady, Refused
from cluster.exit_codes import ExitCode
from search.decisions.selection import MIN_SEEDS
from search.decisions.timing import EVALUATION_SHARE, LEAVING_SHARE
from search.journal.guessing import is_answer_at_chance
from search.journal.lease import LeaseHeld
from search.operations.continuation import Where
from search.operations.select import SEEDS, TOP, SelectRequest, best_few, cost_of, select, terms_of
from search.process.lifetime import start_now
from search.spaces.find import adaptive
from search.values.executors import EXECUTORS
from search.values.message import Message, Remedy
from search.values.wording import duration
from search.views.base import Finished
from search.views.terminal import Terminal, say
from trainables.errors import TrainableError, counted

LEAST_SHARE = 0.1
"""With less than this share of the budget left, nothing more is started or said."""
USED_SHARE = 0.8
"""The largest share of the remaining time that the trainings may take by their estimate.

The estimate is made from the search's own trainings; the rest is for its error.
"""
SIZES = ((TOP, SEEDS), (TOP, 3), (3, 3), (3, MIN_SEEDS), (2, MIN_SEEDS))
"""The possible numbers of candidates and of their seeds, from the most to the least."""
FEWEST = 2
"""The least number of candidates among which there is a choice."""


def choose_in_time_left(finished: Finished) -> Finished:
    """Choose among the best trials of a search if its budget leaves the time; print the choice.

    This applies to a search with an adaptive space, one objective and no limit but that of time,
    that has done all that it had planned, and whose best trial is better than guessing. If its
    answer is an ensemble, no choice is made: a note says how much time is not used.

    Returns:
        The outcome of the choice, or that of the search if there is none. If the choice cannot
        begin, for example because the data has changed since, the reason is printed.
    """
    left_s = _left_s(finished)
    if left_s is None:
        return finished
    name, storage = finished.experiment.name, finished.experiment.storage
    around_s = EXECUTORS[finished.experiment.executor].start_s
    around_s *= 1 + EVALUATION_SHARE + LEAVING_SHARE
    console, expected_s = Terminal(stderr=True), 0.0
    if finished.result.is_ensemble_chosen:
        more = Remedy("resume", name, storage, options={"trials": 2 * len(finished.result.trials)})
        unused = f"note: {duration(left_s)} of the budget are not used. To try more trials: "
        say(console, str(Message(unused, more)))
        return finished
    most = len(best_few(finished.result, TOP))
    if most < FEWEST:
        return finished
    for top, seeds in SIZES:
        request = SelectRequest(
            name=name,
            storage=storage,
            top=min(top, most),
            seeds=seeds,
            where=Where(tracking=finished.experiment.tracking),
        )
        terms = terms_of(request, finished.result)
        expected_s = cost_of(finished.result, terms).seconds + around_s
        if expected_s <= USED_SHARE * left_s:
            say(
                console,
                f"{duration(left_s)} of the budget are left. They are used to train the best "
                f"{counted(len(terms.candidates), 'trial')} again with fresh seeds, because the "
                "best of many trials owes part of its value to luck.",
            )
            return _chosen(request, finished, console, left_s)
    say(
        console,
        str(
            Message(
                f"note: {duration(left_s)} of the budget are not used. That is too short to train "
                f"the best trials again with fresh seeds (at least {duration(expected_s)}), which "
                "would tell whether the best is more than luck: ",
                Remedy("select", name, storage),
            )
        ),
    )
    return finished


def _chosen(
    request: SelectRequest, finished: Finished, console: Terminal, left_s: float
) -> Finished:
    """Make the choice, unless the time ends before.

    If it cannot begin, print the reason, and return the outcome of the search.
    """
    began = start_now()
    try:
        choice = select(request, began=began, limit_s=left_s)
    except (Refused, NotReady, LeaseHeld, TrainableError) as error:
        again = Remedy("select", request.name, request.storage)
        reason = str(error).rstrip(".")
        text = f"warning: no choice was made: {reason}. The search is done. To try it again: "
        say(console, str(Message(text, again)))
        return finished
    selection = choice.result.selection
    is_cut_off = selection is not None and selection.outcome == "interrupted"
    if is_cut_off and began.ago_s > left_s:  # not by the user: the search stands
        return replace(choice, exit_code=finished.exit_code)
    return replace(choice, exit_code=choice.exit_code or finished.exit_code)


def _left_s(finished: Finished) -> float | None:
    """Return the seconds of the budget that are left for a choice; None if there is to be none."""
    experiment, result = finished.experiment, finished.result
    limit = experiment.budget.time
    if (
        limit is None
        or len(experiment.budget.limits) > 1
        or finished.exit_code not in (0, ExitCode.SOME_FAILED)
        or adaptive(experiment.space_source) is None
        or experiment.sealed
        or len(experiment.objectives) > 1
        or result.outcome not in ("completed", "gain")
        or not result.is_over
        or result.best is None
        or is_answer_at_chance(result)
    ):
        return None
    left_s = limit.amount - finished.wall_s
    return left_s if left_s > LEAST_SHARE * limit.amount else None

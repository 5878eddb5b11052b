"""The answers to requests (`search.journal.requests`), in the same words before and after.

`foreseen` tells before it is asked what a request comes to, from the journal alone; the driver
answers with what it knows beside (`Driver.take_up`). Nothing here acts.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from statistics import mean

from cluster.runtime.resources import MANY
from search.design.budget import Budget, Limit, limit
from search.design.experiment import Experiment
from search.journal.events import Requested
from search.journal.requests import EXTEND, PAUSE, Asked, Unreadable
from search.journal.result import ENDED, OPEN, SearchResult, TrialResult
from search.journal.store import Storage
from search.values.message import Blank, Message, Remedy, Start, Word, message_of
from search.values.wording import duration
from trainables.errors import ConfigError, counted
from trainables.values import Json

CHANGEABLE = ("trials", "budget", "price", "concurrency")
"""What an extension changes of a search's description."""


@dataclass(frozen=True)
class Answer:
    """The answer to a request: what comes of it, in words, or why nothing does."""

    message: Message
    is_refused: bool = False
    cost: str = ""
    """What it costs, as far as can be told from what the search has trained; empty if nothing."""
    changes: Json = field(default_factory=dict)
    """What it changes of the search, as `Experiment.describe` has it."""

    @property
    def text(self) -> str:
        """The message as text, with commands that any machine understands."""
        return str(self.message)


@dataclass(frozen=True)
class Standing:
    """The state of a search that is asked for something."""

    is_live: bool
    """True if a driver has it."""
    active: Collection[str] = ()
    """The trials that train, or are about to."""
    closing: tuple[str, str] | None = None
    """By whom and why no trial goes on after its epoch; None while they do."""
    is_training: bool = True
    """False once only the evaluation and the test are left."""
    room: int = MANY
    """The number of trials for which there is room at once, as far as is known."""
    halvings: int = 0
    """The number of trials that ran out of memory, each of which halves how many run at once."""


def foreseen(asked: Asked, result: SearchResult, holder: str, place: Storage) -> Answer:
    """Return what a request would come to now, from a search as `SearchResult.kept_in` has it.

    Args:
        asked: the request.
        result: the search.
        holder: the driver that has it; empty for none.
        place: where searches are kept, for the commands that the answer names.
    """
    try:
        described = result.started.experiment
        experiment = Experiment.from_description(result.name, described, place)
    except ConfigError as error:  # of another version
        message = Message("this version cannot go on with it: ", message_of(error))
        return Answer(message, is_refused=True)
    standing = Standing(
        bool(holder),
        [trial.trial for trial in running(result)],
        ("stopped", "") if result.stopping is not None else None,
        _is_training(experiment, result),
        halvings=len(out_of_memory(_trials_now(result))),
    )
    return answer(asked, experiment, result, standing)


def answer(
    asked: Asked, experiment: Experiment, result: SearchResult, standing: Standing
) -> Answer:
    """Return what a request comes to, of a search that stands so."""
    try:
        if asked.action == PAUSE:
            return _pause(experiment, result, standing)
        if asked.action == EXTEND:
            return _extend(asked, experiment, result, standing)
        if asked.trial:
            return _stop_trial(asked.trial, experiment, result, standing)
        return _stop(experiment, result, standing)
    except ConfigError as error:
        return Answer(message_of(error), is_refused=True)


def requested(asked: Asked, found: Answer) -> Requested:
    """Return the event that tells of a request and its answer."""
    return Requested(
        id=asked.id,
        action=asked.action,
        by=asked.by,
        asked_ms=asked.asked_ms,
        answer=found.text,
        trial=asked.trial,
        options=asked.options,
        is_refused=found.is_refused,
        changes=found.changes,
    )


def unread(found: Unreadable) -> Requested:
    """Return the event that tells of an object among the requests that is none."""
    return Requested(
        id=found.id,
        action="",
        by="",
        asked_ms=0,
        answer=f"no request that can be read: {found.reason}",
        is_refused=True,
    )


def running(result: SearchResult) -> list[TrialResult]:
    """Return the trials that train, or the trainings of a selection."""
    return [trial for trial in _trials_now(result) if trial.outcome == "running"]


def out_of_memory(trials: Iterable[TrialResult]) -> set[str]:
    """Return the trials that ran out of memory beside others."""
    return {trial.trial for trial in trials if "memory" in trial.retries and trial.kind != "memory"}


def is_selecting(result: SearchResult) -> bool:
    """Return whether what runs now, or was cut off, is a selection."""
    selection = result.selection
    return selection is not None and result.now is selection.sessions and not result.has_ended


def _trials_now(result: SearchResult) -> Iterable[TrialResult]:
    """Return the trials of the search, or the trainings of the selection that runs now."""
    if result.selection is not None and is_selecting(result):
        return result.selection.repeats.values()
    return result.trials.values()


def _is_training(experiment: Experiment, result: SearchResult) -> bool:
    """Return whether there is more to do than to evaluate and test, as far as can be told."""
    if result.selection is not None and is_selecting(result):
        return result.selection.verdict is None
    return bool(result.unfinished) or len(result.trials) < experiment.planned_trials


def asked_text(request: Requested) -> str:
    """Return who asked for what happens, as `asked to stop by user@host`: the reason for it."""
    return f"asked to {request.action} by {request.by}"


def _refuse_selection(
    experiment: Experiment, result: SearchResult, standing: Standing, what: str
) -> None:
    """Refuse what a selection cannot do, which needs each of its trainings.

    Raises:
        ConfigError: a selection runs, or was cut off.
    """
    if not is_selecting(result):
        return
    state, advice = (
        ("runs now", "It can be paused")
        if standing.is_live
        else ("is not finished", "Continue it first")
    )
    remedy = Remedy(
        "pause" if standing.is_live else "select",
        experiment.name,
        experiment.storage,
        start=Start.ANYWHERE,
    )
    raise ConfigError(
        Message(f"a selection {state}: {what} is for the search's own trials. {advice}: ", remedy)
    )


def _refuse_over(experiment: Experiment, result: SearchResult, standing: Standing) -> None:
    """Refuse what comes after the search's end.

    Raises:
        ConfigError: the search has ended.
    """
    if result.outcome in ENDED and not standing.is_live:
        raise ConfigError(
            f"'{experiment.name}' has ended ({result.outcome}): there is nothing to stop."
        )


def _stop_trial(
    name: str, experiment: Experiment, result: SearchResult, standing: Standing
) -> Answer:
    _refuse_selection(experiment, result, standing, "to stop a trial")
    trial = result.trials.get(name)
    if trial is None:
        names = list(result.trials)
        there = f"there are {names[0]} to {names[-1]}" if names else "it has none yet"
        raise ConfigError(f"no trial '{name}' in '{experiment.name}': {there}.")
    if trial.ended_ms:
        why = f", {asked_text(trial.asked)}" if trial.asked is not None else ""
        raise ConfigError(f"{name} had ended before ({trial.outcome}{why}).")
    _refuse_over(experiment, result, standing)
    if trial.asked is not None:
        return Answer(Message(f"{name} is to stop already, {asked_text(trial.asked)}"))
    if name in standing.active:
        return Answer(Message(f"{name} stops after epoch {trial.reached + 1}, which it trains now"))
    at = f"after epoch {trial.reached}" if trial.reached else "before its first epoch"
    return Answer(Message(f"{name} ends {at}: it does not train now"))


def _stop(experiment: Experiment, result: SearchResult, standing: Standing) -> Answer:
    _refuse_selection(experiment, result, standing, "to stop early")
    _refuse_over(experiment, result, standing)
    if result.stopping is not None:
        return Answer(Message(f"it is to stop already, {asked_text(result.stopping)}"))
    if standing.is_live and not standing.is_training:
        raise ConfigError("too late: its trials have ended; it is evaluated, and then over.")
    if standing.closing is not None:
        raise ConfigError(f"too late: it comes to its end already, as {standing.closing[1]}.")
    count = len(standing.active)
    finish = (
        f"the {count} that train stop after their epoch"
        if count > 1
        else "the one that trains stops after its epoch"
        if count
        else "none trains now"
    )
    return Answer(
        Message(
            f"no further trial begins, {finish}; what is trained is evaluated, and the best "
            "tested. Later it can go on: ",
            Remedy("resume", experiment.name, experiment.storage, start=Start.ANYWHERE),
        )
    )


def _pause(experiment: Experiment, result: SearchResult, standing: Standing) -> Answer:
    if not standing.is_live:
        raise ConfigError(f"'{experiment.name}' does not run now: there is nothing to pause.")
    if standing.closing is not None and standing.closing[0] not in OPEN:
        return Answer(Message(f"its process ends already: {standing.closing[1]}"))
    go_on = Remedy(
        "select" if is_selecting(result) else "resume",
        experiment.name,
        experiment.storage,
        start=Start.ANYWHERE,
    )
    what = (
        "each trial finishes its epoch, then its process ends"
        if standing.is_training
        else "the evaluation breaks off, and its process ends"
    )
    return Answer(Message(f"{what}. It goes on with: ", go_on))


def _extend(
    asked: Asked, experiment: Experiment, result: SearchResult, standing: Standing
) -> Answer:
    if asked.trials or asked.budget or asked.price is not None:
        _refuse_selection(experiment, result, standing, "to extend it")
    changed, texts = experiment, list[str]()
    if asked.trials:
        changed = _with_trials(asked.trials, changed, result)
        texts.append(
            f"{counted(changed.planned_trials, 'trial')} in all, where there were to be "
            f"{experiment.planned_trials}"
        )
    if asked.budget or asked.price is not None:
        changed = _with_budget(asked, changed)
        now, before = (
            " and ".join(map(str, one.budget.limits)) or "none" for one in (changed, experiment)
        )
        texts.append(f"the budget is {now}, where it was {before}")
    if asked.concurrency is not None:
        changed = replace(changed, concurrency=asked.concurrency)
        texts.append(_at_once_text(asked.concurrency, standing))
    described, known = changed.describe(), experiment.describe()
    changes = {name: described[name] for name in CHANGEABLE if described[name] != known[name]}
    if late := _why_late(experiment, changed, result, standing):
        raise ConfigError(late)
    more = changed.planned_trials - experiment.planned_trials
    return Answer(Message("; ".join(texts)), cost=_cost(more, result), changes=changes)


def _with_trials(wanted: str, experiment: Experiment, result: SearchResult) -> Experiment:
    """Return the search with so many trials, or so many more.

    Raises:
        ConfigError: it has begun more than these, or cannot have more.
    """
    if result.refinement is not None:
        refine = Remedy(
            "refine",
            experiment.name,
            experiment.storage,
            options={"trials": Blank("N")},
            start=Start.ANYWHERE,
        )
        raise ConfigError(
            Message(
                f"--trials: '{experiment.name}' has been refined; how many trials each round has "
                "is for ",
                refine,
                ".",
            )
        )
    planned, begun = experiment.planned_trials, len(result.trials)
    count = planned + int(wanted) if wanted.startswith("+") else int(wanted)
    if count < begun:
        raise ConfigError(f"--trials {wanted}: {begun} have begun, and fewer there cannot be.")
    changed = replace(experiment, trials=count)
    if count > planned >= changed.planned_trials:
        raise ConfigError(
            f"--trials {wanted}: the space has {planned - experiment.outside:,} points, and a "
            "trial is planned for each."
        )
    return changed


def _with_budget(asked: Asked, experiment: Experiment) -> Experiment:
    """Return the search with these limits in place of all limits of their kinds.

    A limit with + is added to each limit of its kind instead.

    Raises:
        ConfigError: a text is not a limit, there is no limit of its kind to which it could be
            added, or a price has no limit in money for which it counts.
    """
    plain = [limit(text) for text in asked.budget if not text.startswith("+")]
    budget = experiment.budget.with_limits(plain)
    for text in asked.budget:
        if text.startswith("+"):
            budget = _added(budget, limit(text[1:]), text)
    if asked.price is not None:
        if not budget.is_priced:
            raise ConfigError(
                f"--price {asked.price:g} has no effect: the search has no budget in money. "
                "Add one, as --budget 20usd."
            )
        budget = replace(budget, price=asked.price)
    return replace(experiment, budget=budget)


def _added(budget: Budget, more: Limit, text: str) -> Budget:
    """Return a budget with a limit added to each limit of its kind.

    Raises:
        ConfigError: it has no limit of this kind.
    """
    if all(one.of != more.of for one in budget.limits):
        raise ConfigError(
            f"--budget {text}: the search has no such limit that it could be added to. "
            f"{more} sets one."
        )
    limits = (one.plus(more.amount) if one.of == more.of else one for one in budget.limits)
    return replace(budget, limits=tuple(limits))


def _at_once_text(wanted: int, standing: Standing) -> str:
    """Return how many trials run at once, and why not as many as are wanted."""
    fitting = min(wanted, standing.room)
    count = max(1, fitting >> standing.halvings)
    text = f"{count} trial{'s' * (count != 1)} at once"
    if fitting < wanted:
        return f"{text}: there is no room for {wanted}"
    if count < wanted:
        return f"{text}: with more, memory ran out"
    return text if standing.room < MANY else f"at most {text}"


def _why_late(
    experiment: Experiment, changed: Experiment, result: SearchResult, standing: Standing
) -> Message:
    """Return why a search cannot be extended any more, with what to do; empty if it can."""
    is_over = result.outcome in ENDED and not standing.is_live
    if standing.is_live and not standing.is_training:
        why = "its trials have ended, and it is evaluated. Once that is over"
    elif standing.closing is not None and standing.closing[0] != "budget":
        why = "it is to stop. Once it has"
    elif is_over and not is_selecting(result):
        why = f"'{experiment.name}' has ended ({result.outcome})"
    else:
        return Message()
    wanted, planned = (_options(search) for search in (changed, experiment))
    resume = Remedy(
        "resume",
        experiment.name,
        experiment.storage,
        options={name: value for name, value in wanted.items() if value != planned[name]},
        start=Start.ANYWHERE,
    )
    return Message(f"too late: {why}, it goes on with: ", resume)


def _options(experiment: Experiment) -> dict[str, Word | list[Word]]:
    """Return the options of `search.resume` that an extension may change."""
    budget = experiment.budget
    return {
        "trials": experiment.planned_trials,
        "budget": [str(limit).replace(" ", "") for limit in budget.limits],
        "price": "" if budget.price is None else f"{budget.price:g}",
        "concurrency": str(experiment.concurrency),
    }


def _cost(trials: int, result: SearchResult) -> str:
    """Return about how long so many more trials take, as fast as those that have ended."""
    ended = [trial for trial in result.trials.values() if trial.ended_ms and trial.own_epochs]
    if trials < 1 or not ended:
        return ""
    epochs = mean(len(trial.own_epochs) for trial in ended) * trials
    seconds = mean(trial.train_s for trial in ended) * trials / max(1, result.sessions[-1].slots)
    return f"about {counted(round(epochs), 'epoch')} and {duration(seconds)} at the pace so far"

"""The replies to requests (`search.journal.requests`).

`preview_request` computes the reply from the journal before a request is sent. The driver computes
it in the same way from its current state (`Driver.take_up`). No function in this module carries out
a request.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from statistics import mean

from cluster.runtime.resources import MANY
from search.design.budget import Budget, Limit, limit
from search.design.experiment import Experiment
from search.journal.events import Requested
from search.journal.requests import EXTEND, PAUSE, DriverRequest, Unreadable
from search.journal.result import ENDED, OPEN, SearchResult, TrialResult
from search.journal.store import Storage
from search.values.message import Blank, Message, Remedy, Start, Word, message_of
from search.values.wording import duration
from trainables.errors import ConfigError, counted
from trainables.values import Json

CHANGEABLE = ("trials", "budget", "price", "concurrency")
"""The values of `Experiment.describe` that an extension may change."""


@dataclass(frozen=True)
class Reply:
    """The reply to a request: its effect in words, or the reason why it is refused."""

    message: Message
    is_refused: bool = False
    cost: str = ""
    """An estimate of the cost of the request, in words.

    Empty if no trial has ended, or if the request costs nothing.
    """
    changes: Json = field(default_factory=dict)
    """The changed values of `Experiment.describe`."""

    @property
    def text(self) -> str:
        """The message as text, with commands that work on any machine."""
        return str(self.message)


@dataclass(frozen=True)
class Standing:
    """The state of a search on which the reply to a request depends."""

    is_live: bool
    """True if a driver runs the search."""
    active: Collection[str] = ()
    """The trials that are training, or are about to start."""
    closing: tuple[str, str] | None = None
    """(outcome, reason) of a search that was closed (`Driver.closing`); None if it was not."""
    is_training: bool = True
    """False once only the evaluation and the test remain."""
    room: int = MANY
    """The number of trials for which the machines have room, as far as is known."""
    halvings: int = 0
    """The number of trials that ran out of memory. Each halves the number that run at once."""


def preview_request(
    request: DriverRequest, result: SearchResult, holder: str, place: Storage
) -> Reply:
    """Compute the reply that a request would get now.

    Args:
        request: the request.
        result: the search, from `SearchResult.kept_in`.
        holder: the name of the driver that runs the search; empty if none does.
        place: the storage, for the commands in the reply.
    """
    try:
        described = result.started.experiment
        experiment = Experiment.from_description(result.name, described, place)
    except ConfigError as error:  # recorded by another version of this program
        message = Message(
            f"this version of the program cannot continue '{result.name}': ", message_of(error)
        )
        return Reply(message, is_refused=True)
    standing = Standing(
        bool(holder),
        [trial.trial for trial in running_trials(result)],
        ("stopped", "") if result.stopping is not None else None,
        _is_training(experiment, result),
        halvings=len(out_of_memory(_current_trials(result))),
    )
    return reply_to(request, experiment, result, standing)


def reply_to(
    request: DriverRequest, experiment: Experiment, result: SearchResult, standing: Standing
) -> Reply:
    """Compute the reply to a request, for a search in this state."""
    try:
        if request.action == PAUSE:
            return _pause(experiment, result, standing)
        if request.action == EXTEND:
            return _extend(request, experiment, result, standing)
        if request.trial:
            return _stop_trial(request.trial, experiment, result, standing)
        return _stop(experiment, result, standing)
    except ConfigError as error:
        return Reply(message_of(error), is_refused=True)


def requested_event(request: DriverRequest, reply: Reply) -> Requested:
    """Create the event of a request and its reply."""
    return Requested(
        id=request.id,
        action=request.action,
        by=request.by,
        asked_ms=request.asked_ms,
        answer=reply.text,
        trial=request.trial,
        options=request.options,
        is_refused=reply.is_refused,
        changes=reply.changes,
    )


def unreadable_event(unreadable: Unreadable) -> Requested:
    """Create the event of a file in `requests/` that is not a valid request."""
    return Requested(
        id=unreadable.id,
        action="",
        by="",
        asked_ms=0,
        answer=f"the request cannot be read: {unreadable.reason}",
        is_refused=True,
    )


def running_trials(result: SearchResult) -> list[TrialResult]:
    """Return the trials that are running; during a selection, its trainings."""
    return [trial for trial in _current_trials(result) if trial.outcome == "running"]


def out_of_memory(trials: Iterable[TrialResult]) -> set[str]:
    """Return the names of the trials that ran out of memory because others ran next to them.

    A trial that finally failed for this reason is left out: it needs too much memory by itself.
    """
    return {trial.trial for trial in trials if "memory" in trial.retries and trial.kind != "memory"}


def is_selecting(result: SearchResult) -> bool:
    """True if a selection runs now, or was cut off."""
    selection = result.selection
    return (
        selection is not None
        and result.current_sessions is selection.sessions
        and not result.has_ended
    )


def _current_trials(result: SearchResult) -> Iterable[TrialResult]:
    """Return the trainings of the selection if one runs now, otherwise the trials of the search."""
    if result.selection is not None and is_selecting(result):
        return result.selection.repeats.values()
    return result.trials.values()


def _is_training(experiment: Experiment, result: SearchResult) -> bool:
    """True unless only the evaluation and the test remain, as far as is known."""
    if result.selection is not None and is_selecting(result):
        return result.selection.verdict is None
    return bool(result.unfinished) or len(result.trials) < experiment.planned_trials


def request_text(request: Requested) -> str:
    """Describe a request as a reason, such as `asked to stop by user@host`."""
    return f"asked to {request.action} by {request.by}"


def _refuse_selection(
    experiment: Experiment, result: SearchResult, standing: Standing, what: str
) -> None:
    """Refuse a request that cannot be applied to a selection, while one is unfinished.

    `what` names the requested action in the message.

    Raises:
        ConfigError: a selection runs, or was cut off.
    """
    if not is_selecting(result):
        return
    state, advice = (
        ("is running", "To pause the selection")
        if standing.is_live
        else ("is not finished", "Continue the selection first")
    )
    remedy = Remedy(
        "pause" if standing.is_live else "select",
        experiment.name,
        experiment.storage,
        start=Start.ANYWHERE,
    )
    raise ConfigError(
        Message(
            f"a selection of '{experiment.name}' {state}, and {what} is not possible during a "
            f"selection. {advice}: ",
            remedy,
        )
    )


def _refuse_over(experiment: Experiment, result: SearchResult, standing: Standing) -> None:
    """Refuse to stop a search that has ended.

    Raises:
        ConfigError: the search has ended.
    """
    if result.outcome in ENDED and not standing.is_live:
        raise ConfigError(
            f"'{experiment.name}' has ended ({result.reason or result.outcome}), so there is "
            "nothing to stop."
        )


def _stop_trial(
    name: str, experiment: Experiment, result: SearchResult, standing: Standing
) -> Reply:
    _refuse_selection(experiment, result, standing, "stopping a trial")
    trial = result.trials.get(name)
    if trial is None:
        names = list(result.trials)
        there = f"it has {names[0]} to {names[-1]}" if names else "it has no trials yet"
        raise ConfigError(f"there is no trial '{name}' in '{experiment.name}': {there}.")
    if trial.ended_ms:
        why = f", {request_text(trial.stop_request)}" if trial.stop_request is not None else ""
        raise ConfigError(f"{name} has already ended ({trial.outcome}{why}).")
    _refuse_over(experiment, result, standing)
    if trial.stop_request is not None:
        return Reply(Message(f"{name} is already stopping ({request_text(trial.stop_request)})"))
    if name in standing.active:
        epoch = trial.reached + 1
        return Reply(Message(f"{name} stops after epoch {epoch}, which it is training now"))
    at = f"after epoch {trial.reached}" if trial.reached else "before its first epoch"
    return Reply(Message(f"{name} is not training now, so it ends {at}"))


def _stop(experiment: Experiment, result: SearchResult, standing: Standing) -> Reply:
    _refuse_selection(experiment, result, standing, "stopping the search early")
    _refuse_over(experiment, result, standing)
    if result.stopping is not None:
        return Reply(
            Message(f"'{experiment.name}' is already stopping ({request_text(result.stopping)})")
        )
    if standing.is_live and not standing.is_training:
        raise ConfigError(
            f"it is too late to stop '{experiment.name}': its trials have ended, and the search "
            "ends after their evaluation."
        )
    if standing.closing is not None:
        raise ConfigError(
            f"it is too late to stop '{experiment.name}': the search is already ending "
            f"({standing.closing[1]})."
        )
    count = len(standing.active)
    finish = (
        f"the {count} running trials stop after their current epoch"
        if count > 1
        else "the running trial stops after its current epoch"
        if count
        else "no trial is running now"
    )
    return Reply(
        Message(
            f"no further trials start, and {finish}. The trained models are evaluated, and the "
            "best one is tested. To continue later: ",
            Remedy("resume", experiment.name, experiment.storage, start=Start.ANYWHERE),
        )
    )


def _pause(experiment: Experiment, result: SearchResult, standing: Standing) -> Reply:
    if not standing.is_live:
        raise ConfigError(f"'{experiment.name}' is not running, so there is nothing to pause.")
    if standing.closing is not None and standing.closing[0] not in OPEN:
        return Reply(
            Message(f"the process of '{experiment.name}' is already ending ({standing.closing[1]})")
        )
    go_on = Remedy(
        "select" if is_selecting(result) else "resume",
        experiment.name,
        experiment.storage,
        start=Start.ANYWHERE,
    )
    what = (
        "each trial finishes its current epoch, then the process of the search ends"
        if standing.is_training
        else "the evaluation is interrupted, and the process of the search ends"
    )
    return Reply(Message(f"{what}. Continue with: ", go_on))


def _extend(
    request: DriverRequest, experiment: Experiment, result: SearchResult, standing: Standing
) -> Reply:
    if request.trials or request.budget or request.price is not None:
        _refuse_selection(experiment, result, standing, "extending the search")
    changed, texts = experiment, list[str]()
    if request.trials:
        changed = _with_trials(request.trials, changed, result)
        texts.append(
            f"{counted(changed.planned_trials, 'trial')} in total instead of "
            f"{experiment.planned_trials}"
        )
    if request.budget or request.price is not None:
        changed = _with_budget(request, changed)
        now, before = (
            " and ".join(map(str, variant.budget.limits)) or "none"
            for variant in (changed, experiment)
        )
        texts.append(f"the budget is now {now} instead of {before}")
    if request.concurrency is not None:
        changed = replace(changed, concurrency=request.concurrency)
        texts.append(_at_once_text(request.concurrency, standing))
    new_facts, old_facts = changed.describe(), experiment.describe()
    changes = {name: new_facts[name] for name in CHANGEABLE if new_facts[name] != old_facts[name]}
    if late := _why_late(experiment, changed, result, standing):
        raise ConfigError(late)
    more = changed.planned_trials - experiment.planned_trials
    return Reply(Message("; ".join(texts)), cost=_cost(more, result), changes=changes)


def _with_trials(text: str, experiment: Experiment, result: SearchResult) -> Experiment:
    """Return the experiment with another number of trials.

    `text` is the new total, such as `60`, or the number of trials to add, such as `+20`.

    Raises:
        ConfigError: more trials have started already, the space has too few points, or the search
            has been refined.
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
                f"--trials cannot be changed, because '{experiment.name}' has been refined. Set "
                "the number of trials of each round with ",
                refine,
                ".",
            )
        )
    planned, started = experiment.planned_trials, len(result.trials)
    count = planned + int(text) if text.startswith("+") else int(text)
    if count < started:
        raise ConfigError(
            f"--trials {text} is too low, because {counted(started, 'trial')} have already "
            f"started. Use at least {started}."
        )
    changed = replace(experiment, trials=count)
    if count > planned >= changed.planned_trials:
        raise ConfigError(
            f"--trials {text} is too high: the space has {planned - experiment.outside:,} points, "
            "and a trial is already planned for each point."
        )
    return changed


def _with_budget(request: DriverRequest, experiment: Experiment) -> Experiment:
    """Return the experiment with its budget changed as a request asks.

    Each limit in the request replaces the limits of the same kind in the budget. If it begins with
    +, it is added to them instead.

    Raises:
        ConfigError: a limit begins with +, but the budget has none of the same kind; or a price is
            set without a budget in money.
    """
    plain = [limit(text) for text in request.budget if not text.startswith("+")]
    budget = experiment.budget.with_limits(plain)
    for text in request.budget:
        if text.startswith("+"):
            budget = _add_limit(budget, limit(text[1:]), text)
    if request.price is not None:
        if not budget.is_priced:
            raise ConfigError(
                f"--price {request.price:g} has no effect: the search has no budget in money. "
                "Add a budget in money, for example --budget 20usd."
            )
        budget = replace(budget, price=request.price)
    return replace(experiment, budget=budget)


def _add_limit(budget: Budget, more: Limit, text: str) -> Budget:
    """Increase each limit of the same kind as `more` by its amount (`--budget +2h`).

    `text` is the value of the option, for the error message.

    Raises:
        ConfigError: the budget has no limit of this kind.
    """
    if all(present.of != more.of for present in budget.limits):
        raise ConfigError(
            f"--budget {text} cannot be added, because the search has no limit of this kind. "
            f"Set a limit with --budget {str(more).replace(' ', '')}."
        )
    limits = (
        present.plus(more.amount) if present.of == more.of else present for present in budget.limits
    )
    return replace(budget, limits=tuple(limits))


def _at_once_text(concurrency: int, standing: Standing) -> str:
    """Describe the number of trials at once, and the reason if it is less than requested."""
    fitting = min(concurrency, standing.room)
    count = max(1, fitting >> standing.halvings)
    text = f"{count} trial{'s' * (count != 1)} at once"
    if fitting < concurrency:
        return f"{text}, because there is no room for {concurrency}"
    if count < concurrency:
        return f"{text}, because memory ran out with more"
    return text if standing.room < MANY else f"at most {text}"


def _why_late(
    experiment: Experiment, changed: Experiment, result: SearchResult, standing: Standing
) -> Message:
    """Return the reason why a search cannot be extended any more, with a remedy.

    The message is empty if the search can be extended.
    """
    is_over = result.outcome in ENDED and not standing.is_live
    if standing.is_live and not standing.is_training:
        why = (
            f"the trials of '{experiment.name}' have ended, and the search is being evaluated. "
            "Continue after the evaluation"
        )
    elif standing.closing is not None and standing.closing[0] != "budget":
        why = f"'{experiment.name}' is stopping. When the search has stopped, continue"
    elif is_over and not is_selecting(result):
        why = f"'{experiment.name}' has ended ({result.reason or result.outcome}). Continue"
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
    return Message(f"too late: {why} with: ", resume)


def _options(experiment: Experiment) -> dict[str, Word | list[Word]]:
    """Return the options of `search.resume` that an extension may change, with their values."""
    budget = experiment.budget
    return {
        "trials": experiment.planned_trials,
        "budget": [str(limit).replace(" ", "") for limit in budget.limits],
        "price": "" if budget.price is None else f"{budget.price:g}",
        "concurrency": str(experiment.concurrency),
    }


def _cost(trials: int, result: SearchResult) -> str:
    """Describe the estimated time of further trials.

    Empty if there are no further trials, or if no trial has ended yet.
    """
    ended = [trial for trial in result.trials.values() if trial.ended_ms and trial.own_epochs]
    if trials < 1 or not ended:
        return ""
    epochs = mean(len(trial.own_epochs) for trial in ended) * trials
    seconds = mean(trial.train_s for trial in ended) * trials / max(1, result.sessions[-1].slots)
    return f"about {counted(round(epochs), 'epoch')} and {duration(seconds)} at the pace so far"

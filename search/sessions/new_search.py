"""A new search, from its experiment to its outcome."""

from functools import partial
from uuid import uuid4

from search.design.budget import Budget
from search.design.experiment import Experiment
from search.journal.events import Started
from search.journal.journal import VERSION
from search.preflight.exports import check_exports
from search.preflight.prepare import data_facts, prepare, refuse_existing
from search.process.lifetime import command_start
from search.sessions.plan import SessionPlan
from search.sessions.session import opening_line, run_session
from search.spaces.find import sha256_of
from search.tracking.runs import new_title
from search.views.base import Finished
from search.views.terminal import Terminal, say
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.errors import ConfigError, counted
from trainables.inspection.words import headline


def run_search(experiment: Experiment, *, as_json: bool = False) -> Finished:
    """Run a new search until it ends, and print its result; with `as_json`, print JSON as well.

    Raises:
        ConfigError: the name is used already, the search cannot work, a model cannot be exported,
            or the time budget was used up before the first trial could start.
        NotReady, Unavailable: as in `prepare`.
        LeaseHeld: another process is starting a search with this name.
    """
    began = command_start()
    refuse_existing(experiment)
    prepared = prepare(experiment)
    console = Terminal(stderr=True)
    for line in (headline(prepared.report), *prepared.notes):
        say(console, line)
    experiment = prepared.experiment
    with prepared.waiting.counting():
        check_exports(experiment.edges, prepared.dataset, partial(say, console))
    if (limit := experiment.budget.time) is not None and began.ago_s > limit.amount:
        raise ConfigError(
            f"--budget {limit} is too small: the preparation of the first trial already took "
            f"{began.ago_s:.0f} s. Use a larger budget."
        )
    bounds = folds_text(experiment.base) + limits_text(experiment.budget)
    opening = opening_line(
        experiment,
        f"{counted(experiment.planned_trials, 'trial')} of up to "
        f"{counted(experiment.horizon, 'epoch')}{bounds}",
    )
    first_event = started_event(experiment, prepared.dataset)
    plan = SessionPlan("search.run", first_event, as_json=as_json)
    return run_session(prepared, console, began, opening, plan)


def started_event(experiment: Experiment, dataset: Dataset) -> Started:
    """Create the first event of a search, with the fields that no later event repeats."""
    facts = data_facts(experiment, dataset)
    title = new_title(experiment.space_name, facts, experiment.base.to_dict())
    return Started(
        version=VERSION,
        name=experiment.name,
        id=uuid4().hex[:12],
        mlflow_experiment=title,
        space_sha256=sha256_of(experiment.space_source),
    )


def folds_text(config: TrialConfig) -> str:
    """Return a clause on cross-validation for the opening line; empty without folds."""
    return f" in each of {config.data.folds} folds" if config.data.folds else ""


def limits_text(budget: Budget) -> str:
    """Return a clause on the budget for the opening line; empty without limits."""
    return f", within {' and '.join(map(str, budget.limits))}" if budget.limits else ""

"""Refines a search that has ended, in rounds."""

from dataclasses import asdict, dataclass, replace
from functools import partial

from cluster.errors import Refused
from search.decisions import refinement_policy
from search.decisions.refinement_policy import RefinementPolicy
from search.design.experiment import Experiment
from search.journal.events import Change, RefinementTerms, Resumed
from search.journal.result import SearchResult
from search.operations.continuation import UsageLimits, Where, change_option, keep_option
from search.operations.options import SearchRequest
from search.operations.select import refuse_unfinished
from search.preflight.changes import changes, facts_now
from search.preflight.overrides import Overrides, apply_overrides
from search.preflight.prepare import Prepared, prepare
from search.process.lifetime import command_start
from search.sessions.plan import SessionPlan
from search.sessions.session import opening_line, run_session
from search.values.message import Message, Remedy
from search.values.option import group, option
from search.values.wording import changes_text
from search.views.base import Finished
from search.views.terminal import Terminal
from trainables.errors import ConfigError, counted

ROUNDS, MIN_TRIALS = 5, 6
MIN_COMPARED = 2
"""The minimum number of trials that a search needs to be refined.

Trials that differ only in length count once.
"""


@dataclass(frozen=True, kw_only=True)
class RefineRequest(SearchRequest):
    """A search to refine, and the terms of the refinement: its rounds, and the trials of each."""

    trials: int | None = option(
        "number of new trials per round (default: as before, else a third of the search's, at "
        f"least {MIN_TRIALS})",
        metavar="N",
        parse=int,
    )
    rounds: int | None = option(
        f"maximum number of rounds (default: as before, else {ROUNDS})", metavar="N", parse=int
    )
    limits: UsageLimits = group(
        UsageLimits, of="what may be used from now on", default=" (default: none)"
    )
    allow_change: bool = change_option("the data, the code or a library")
    where: Where = group(Where, before="as for the search")
    keep: str | None = keep_option()

    def overrides(self) -> Overrides:
        """Collect the options that replace recorded values of the search."""
        return self.where.overrides(self.limits, keep=self.keep)


@dataclass(frozen=True, kw_only=True)
class NextSpace:
    """The changes that the next round of a refinement would make to the space."""

    name: str
    """The name of the search."""
    trials: int
    """The number of the search's trials so far."""
    terms: RefinementTerms
    changes: tuple[Change, ...]

    def lines(self) -> list[str]:
        """Format the changes as lines of text."""
        subject = f"{known_text(self.trials)}; {terms_text(self.terms)}"
        return [
            f"{self.name}: {subject}. The next round would change:",
            *(f"  {change.text}" for change in self.changes),
            "  nothing was started",
        ]


@dataclass(frozen=True, kw_only=True)
class PreparedRefinement:
    """A refinement that has been checked, and can start."""

    result: SearchResult
    prepared: Prepared
    terms: RefinementTerms
    differences: list[str]
    """The changes of the data, the code and the libraries since the start of the search.

    The request allows them.
    """
    is_settled: bool
    """True if all rounds have ended, but the search has not."""


def refine(request: RefineRequest, *, as_json: bool = False) -> Finished:
    """Refine a search, or continue its interrupted refinement, and print the result.

    Args:
        request: the search, and the terms of its refinement.
        as_json: True to print the result as JSON, too.

    Raises:
        NoSuchSearch: there is no such search.
        Refused: the data, the code or a library has changed, and the request does not allow that.
    """
    began = command_start()
    refinement = prepare_refinement(request)
    prepared, terms = refinement.prepared, refinement.terms
    subject = f"{known_text(len(refinement.result.trials))}; {terms_text(terms)}"
    first = Resumed(
        changes=refinement.differences, refining=None if refinement.is_settled else terms
    )
    return run_session(
        prepared,
        Terminal(stderr=True),
        began,
        opening_line(prepared.experiment, subject),
        SessionPlan(
            "search.refine",
            first,
            policy=partial(RefinementPolicy, dataset=prepared.dataset),
            as_json=as_json,
        ),
    )


def next_space(request: RefineRequest) -> NextSpace:
    """Compute how the next round would change the space; start nothing.

    Raises:
        NoSuchSearch: there is no such search.
        Refused: as in `prepare_refinement`.
    """
    refinement = prepare_refinement(request)
    prepared, result = refinement.prepared, refinement.result
    _, space_changes = refinement_policy.next_space(prepared.experiment, prepared.dataset, result)
    return NextSpace(
        name=request.name,
        trials=len(result.trials),
        terms=refinement.terms,
        changes=tuple(space_changes),
    )


def prepare_refinement(request: RefineRequest) -> PreparedRefinement:
    """Read a search, and check that it can be refined as requested.

    Raises:
        NoSuchSearch: there is no such search.
        Refused: the search cannot be refined, or the data, the code or a library has changed, and
            the request does not allow that.
    """
    result = SearchResult.read(request.home().opened())
    recorded = apply_overrides(
        Experiment.from_description(request.name, result.started.experiment, request.storage),
        request.overrides(),
        result,
    )
    refinement = result.refinement
    goes_on = refinement is not None and not (refinement.is_over and result.is_over)
    if not goes_on:
        refuse_unfinished(recorded, result)
    refuse_few(recorded, result)
    terms = terms_of(request, result if goes_on else None, len(result.trials))
    experiment = experiment_of(request, recorded, result, goes_on=goes_on)
    prepared = prepare(experiment, anew=False, trainings=terms.rounds * terms.trials)
    differences = changes(result.started, facts_now(recorded, prepared))
    if differences and not request.allow_change:
        raise Refused(changes_text(request.name, differences))
    return PreparedRefinement(
        result=result,
        prepared=prepared,
        terms=terms,
        differences=differences,
        # The process may have ended between the end of the last round and that of the search.
        is_settled=goes_on and refinement is not None and refinement.is_over,
    )


def refuse_few(experiment: Experiment, result: SearchResult) -> None:
    """Check that a search can be refined: it needs trials, searched parameters and one objective.

    Raises:
        Refused: the search has several objectives, no searched parameter, or fewer than
            `MIN_COMPARED` distinct trials.
    """
    if len(experiment.objectives) > 1:
        remedy = "Instead, start another search with a narrower space."
        raise Refused(
            f"'{experiment.name}' has the objectives {', '.join(experiment.objectives)}, but a "
            f"refinement can optimize only {result.metric.title}. {remedy}"
        )
    if not experiment.space.domains:
        raise Refused(
            f"'{experiment.name}' cannot be refined, because its space has no searched "
            "parameters. Refine a search that has at least one searched parameter."
        )
    if len(result.distinct) < MIN_COMPARED:
        lengths = (
            " (trials that differ only in the number of epochs count once)"
            if len(result.ranking) >= MIN_COMPARED
            else ""
        )
        raise Refused(
            Message(
                f"a refinement compares at least {MIN_COMPARED} trials, but '{experiment.name}' "
                f"has {len(result.distinct)} with a result{lengths}. Run more trials: ",
                Remedy(
                    "resume",
                    experiment.name,
                    experiment.storage,
                    options={"trials": len(result.trials) + MIN_TRIALS},
                ),
            )
        )


def terms_of(
    request: RefineRequest, earlier: SearchResult | None, trial_count: int
) -> RefinementTerms:
    """Choose the maximum number of rounds, and the number of new trials in each.

    Args:
        request: the requested numbers, which take precedence.
        earlier: the search whose interrupted refinement is continued, and provides the defaults;
            None for a new refinement.
        trial_count: the number of trials of the search. By default, each round of a new refinement
            has a third of this number, but at least `MIN_TRIALS`.

    Raises:
        ConfigError: one of the numbers is below 1.
    """
    before = RefinementTerms(ROUNDS, max(MIN_TRIALS, round(trial_count / 3)))
    if earlier is not None and earlier.refinement is not None:
        before = earlier.refinement.terms
    terms = RefinementTerms(
        before.rounds if request.rounds is None else request.rounds,
        before.trials if request.trials is None else request.trials,
    )
    for name, value in asdict(terms).items():
        if value < 1:
            raise ConfigError(f"--{name} must be >= 1 (got {value}).")
    return terms


def experiment_of(
    request: RefineRequest, recorded: Experiment, result: SearchResult, *, goes_on: bool
) -> Experiment:
    """Build the experiment of the refinement.

    A refinement uses the Bayesian algorithm. With --budget it has its own limits, which count from
    now on. Without --budget, a refinement has no limits if it is new, or if its last budget was
    used up.

    Args:
        request: the requested refinement.
        recorded: the experiment in the journal.
        result: the search.
        goes_on: True if an interrupted refinement is continued.
    """
    experiment = replace(
        recorded if goes_on else replace(recorded, algorithm="bayes", trials=len(result.trials)),
        min_gain=0.0,
        stop_at_chance=0,
    )
    if request.limits.budget:
        own = replace(experiment.budget, limits=request.limits.budget)
        return replace(experiment, budget=own.from_now(result, experiment.demand))
    return (
        experiment
        if goes_on and result.outcome != "budget"
        else replace(experiment, budget=replace(experiment.budget, limits=()))
    )


def terms_text(terms: RefinementTerms) -> str:
    """Describe the terms, such as "up to 5 rounds of 8 trials"."""
    return (
        f"up to {terms.rounds} round{'s' * (terms.rounds != 1)} of {counted(terms.trials, 'trial')}"
    )


def known_text(count: int) -> str:
    """Describe the number of trials so far, such as "24 trials are known"."""
    return f"{counted(count, 'trial')} {'is' if count == 1 else 'are'} known"

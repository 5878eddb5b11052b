"""The answer of a search: the trial whose model is promoted and used."""

from search.journal.guessing import AgainstGuessing, Guessing
from search.journal.lease import LeaseHeld
from search.journal.naming import refuse_cut_off
from search.journal.result import SearchResult, TrialResult
from search.journal.store import Home, Storage
from search.values.message import Blank, Message, Remedy
from trainables.errors import ConfigError


def find_answer(
    result: SearchResult, home: Home, storage: Storage, trial: str | None = None
) -> TrialResult:
    """Return the trial whose model is used: `trial`, or by default the search's answer.

    The search must have ended; an interrupted one counts as ended.

    Raises:
        LeaseHeld: a driver runs the search.
        Refused: the search, or its selection, was cut off.
        ConfigError: the search or the given trial has no result, or the trial's checkpoints were
            removed.
    """
    if holder := home.holder():
        raise LeaseHeld(
            Message(
                f"the search '{result.name}' is being run by {holder}. "
                "Wait until it has finished, or stop it first. If that process is dead, continue "
                "the search: ",
                Remedy("resume", result.name, storage),
            )
        )
    refuse_cut_off(result, storage)
    if trial is not None and trial not in {model.trial for model in result.candidates}:
        raise ConfigError(
            Message(
                f"--trial '{trial[:80]}': the search '{result.name}' has no trial of this name "
                "with a result. To list its trials: ",
                Remedy("status", result.name, storage, options={"all": True}),
            )
        )
    if (chosen := result.find(trial) if trial is not None else result.chosen) is None:
        raise ConfigError(
            Message(
                f"the search '{result.name}' has no trial with a result, so it has no model. To "
                "see why: ",
                Remedy("status", result.name, storage),
            )
        )
    if chosen.is_freed and trial is None:
        raise ConfigError(
            Message(
                f"the checkpoints of {chosen.trial}, the trial that '{result.name}' recommends, "
                "were removed. Promote another trial: ",
                Remedy("promote", result.name, storage, options={"trial": Blank("TRIAL")}),
                " (to list them: ",
                Remedy("status", result.name, storage, options={"all": True}),
                ")",
            )
        )
    if chosen.is_freed:
        raise ConfigError(
            Message(
                f"--trial {chosen.trial}: the checkpoints of this trial were removed, because they "
                "were not needed for the search. Leave --trial out to use the recommended trial. A "
                "search with --keep all keeps the checkpoints of every trial.",
            )
        )
    return chosen


def against_guessing(result: SearchResult, chosen: TrialResult) -> AgainstGuessing | None:
    """Compare a trial's model with guessing; None if the accuracy of guessing is not known."""
    guessing = Guessing.of(result)
    return guessing.against(chosen) if guessing is not None else None

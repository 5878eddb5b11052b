"""The events of a search's journal: one class for each kind.

A field is named as it is on the disk, and the fields stand in the order in which they are written.
What this version does not know, of a later one, is left out when it is read.
"""

from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, is_dataclass, replace
from functools import cache
from typing import Any, ClassVar, Self, TypedDict, TypeVar

from search.journal.kinds import Kinds, kinds_of
from search.values.statistics import Expected
from trainables.messages import Cost, WarmStart
from trainables.values import Json

Read = TypeVar("Read")


@dataclass(frozen=True)
class EventData:
    """The facts of an event; a field that has its default is not written."""

    ALWAYS: ClassVar[frozenset[str]] = frozenset()
    """Fields that are written even so."""
    HOLDS: ClassVar[Mapping[str, type]] = {}
    """The dataclass of which a field holds one, or a list."""
    INSIDE: ClassVar[Mapping[str, type]] = {}
    """The `TypedDict` of a field that is a JSON object: the values that readers rely on."""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the facts with these values.

        Raises:
            ValueError: one is missing, or of another kind than its field.
        """
        made: Any = cls
        _kinds(made).check(values)
        return _read(cls, values, cls.HOLDS)

    def to_json(self) -> Json:
        """Return plain values, without those that are left out at their default."""
        made: Any = type(self)
        return {
            name: _plain(value)
            for name, left_out_at in _written(made)
            if (value := getattr(self, name)) != left_out_at
        }


class NamedFacts(TypedDict, total=False):
    """The values that readers rely on of a described space or model."""

    name: str


class SpaceFacts(NamedFacts, total=False):
    """The values that readers rely on of a described space."""

    domains: dict[str, Json]
    reference: Json


class DataConfigFacts(TypedDict, total=False):
    """The values that readers rely on of the data's part of a config."""

    task: str
    folds: int | None


class ConfigFacts(TypedDict, total=False):
    """The values that readers rely on of a config."""

    epochs: int
    metric: str
    model: NamedFacts
    data: DataConfigFacts


class ExperimentFacts(TypedDict, total=False):
    """The values that readers rely on of a described search."""

    space: SpaceFacts
    base: ConfigFacts
    algorithm: str
    scheduler: str
    trials: int
    seed: int
    objectives: list[str]


class DataFacts(TypedDict, total=False):
    """The values that readers rely on of the facts of a data set."""

    name: str
    root: str
    classes: list[str]
    train: int
    val: int
    test: int
    folds: int | None
    guesses: list[Json]


class PackingFacts(TypedDict, total=False):
    """The values that readers rely on of a session's packing."""

    members: int
    per_gpu: int


@dataclass(frozen=True)
class TrialEvent(EventData):
    """An event of one trial, or of one training of a selection."""

    trial: str


@dataclass(frozen=True)
class Unknown(EventData):
    """An event of a later version."""

    kind: str
    trial: str = ""
    values: Json = field(default_factory=dict)

    def to_json(self) -> Json:
        """Return the values as they were read."""
        return self.values


@dataclass(frozen=True, kw_only=True)
class SessionStart(EventData):
    """The beginning of a driver's session, with what decides its course."""

    INSIDE: ClassVar = {
        "experiment": ExperimentFacts,
        "data": DataFacts,
        "packing": PackingFacts,
    }
    experiment: Json = field(default_factory=dict)
    """The search, as `Experiment.describe` has it."""
    data: Json = field(default_factory=dict)
    """The facts of the data set."""
    weights: Json = field(default_factory=dict)
    """The fingerprints of the weights that trials may begin with."""
    slots: int = 0
    """The number of trials that may run at once."""
    packing: Json = field(default_factory=dict)
    """The number of trials a worker, and of workers a GPU (`Packing`)."""
    provenance: dict[str, str] = field(default_factory=dict)
    """Versions, and the code, host and user."""
    began_ms: int = 0
    """The Unix time at which the session's command began."""
    driver: str = ""
    """The process that writes the session, as its lease names it."""
    boot: str = ""
    """Its machine (`lease.boot_id`), which has the clock of `zero_ms`."""
    zero_ms: int = 0
    """The reading of that machine's monotonic clock when the session's command began.

    With it, another process on the machine knows how long the session has run by now.
    """
    training: str = ""
    """The fingerprint of what, beside its config, decides a training."""

    def changed_by(self, later: "SessionStart") -> Self:
        """Return this event with what a later one tells of the same."""
        told = {one.name for one in fields(self)} & later.to_json().keys()
        return replace(self, **{name: getattr(later, name) for name in told})


@dataclass(frozen=True, kw_only=True)
class Started(SessionStart):
    """The beginning of a search."""

    version: int = 0
    """The version of the journal's format."""
    name: str = ""
    id: str = ""
    mlflow_experiment: str = ""
    """The title of MLflow's experiment; journals of earlier versions do not have it."""
    space_sha256: str | None = None
    """The checksum of a user's own space file."""


@dataclass(frozen=True)
class RefinementTerms:
    """The terms of a refinement."""

    rounds: int
    """The most rounds."""
    trials: int
    """The number of new trials in each."""


@dataclass(frozen=True, kw_only=True)
class Resumed(SessionStart):
    """A new session of the driver goes on."""

    HOLDS: ClassVar = {"refining": RefinementTerms}
    changes: list[str] | None = None
    """The changes since the search began, a line each."""
    space_sha256: str | None = None
    """The checksum of the space file that was named for this session."""
    refining: RefinementTerms | None = None


@dataclass(frozen=True, kw_only=True)
class Selecting(SessionStart):
    """A session of a selection."""

    candidates: list[str]
    """The trials among which is chosen."""
    seeds: int
    """The most fresh seeds for each."""
    alpha: float
    """The error rate of all paired tests together."""
    top: int | None = None
    """The number of candidates that was asked for."""


@dataclass(frozen=True)
class Slots(EventData):
    """The number of trials that may run at once from now on."""

    count: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Suggested(TrialEvent):
    """A trial that is proposed, or a training for a selection."""

    INSIDE: ClassVar = {"config": ConfigFacts}
    stem: str = ""
    """The training key: equal for trainings that differ in length alone."""
    params: Json
    config: Json
    """Empty where the params make no valid config."""
    repeat_of: str = ""
    """Of a training for a selection: the candidate."""
    seed: int | None = None
    """Of a training for a selection: its seed."""


@dataclass(frozen=True)
class Running(TrialEvent):
    """A trial has got its slot."""

    ALWAYS: ClassVar = frozenset({"host"})
    attempt: int
    """The attempt number, from 1."""
    host: str = ""
    """The host that trains it."""


@dataclass(frozen=True)
class Restored(TrialEvent):
    """An attempt goes on from a checkpoint."""

    HOLDS: ClassVar = {"begun": WarmStart}
    epoch: int
    """The epoch from which it goes on; 0: from the beginning."""
    damaged: list[str]
    """The faults of newer checkpoints, a line each."""
    begun: WarmStart | None = None
    """The warm start, if its epochs are not in the journal yet; they follow as the trial's own."""


@dataclass(frozen=True)
class Epoch(TrialEvent):
    """A trial has finished an epoch, counted from 1."""

    epoch: int
    metrics: dict[str, float]
    precision: str = ""
    """fp32, bf16 or fp16."""
    folds: list[dict[str, float]] = field(default_factory=list)
    """With folds: the metrics of each, whose means are the trial's."""


@dataclass(frozen=True)
class Decided(TrialEvent):
    """A trial goes no further for now, or at all, with what the decision rests on."""

    epoch: int
    by: str
    """The scheduler, or what else decided."""
    reason: str
    rung: int | None = None
    """The epoch at which trials were compared."""
    rivals: int | None = None
    """The number of trials that had reached that epoch, this one included."""
    risk: float | None = None
    """The chance that this trial would have been the best."""


@dataclass(frozen=True)
class Held(Decided):
    """A trial waits at a rung."""


@dataclass(frozen=True)
class Stopped(Decided):
    """A trial is stopped."""


@dataclass(frozen=True)
class Promoted(TrialEvent):
    """A trial goes on from a rung."""

    epoch: int
    by: str


@dataclass(frozen=True, kw_only=True)
class Requested(EventData):
    """Somebody has asked for something, and the driver has answered (`search.journal.requests`)."""

    INSIDE: ClassVar = {"changes": ExperimentFacts}
    id: str
    action: str
    """stop, pause or extend; empty if the request could not be read."""
    by: str
    """The person, and the way: `user@host`, or `user@host (page)`."""
    asked_ms: int
    """Unix time in milliseconds, by the clock of whoever asked."""
    answer: str
    """What came of it, in words."""
    trial: str = ""
    """The trial that is to stop; empty for the whole search."""
    options: Json = field(default_factory=dict)
    """What was asked for beside it, as it was written: `{"trials": "+20"}`."""
    is_refused: bool = False
    changes: Json = field(default_factory=dict)
    """What it changes of the search, as `Experiment.describe` has it."""


@dataclass(frozen=True)
class Waiting(TrialEvent):
    """A trial's storage refuses, and it tries again."""

    epoch: int
    reason: str


@dataclass(frozen=True)
class Paused(TrialEvent):
    """The search was interrupted, or its budget leaves nothing for the trial."""

    epoch: int
    reason: str


@dataclass(frozen=True)
class Costed(TrialEvent):
    """The cost of using a trial's network, as measured with its first epoch."""

    cost: Cost


@dataclass(frozen=True)
class Retried(TrialEvent):
    """A trial is tried again after a failure."""

    kind: str
    """moved, lost, hung, memory or error."""
    reason: str


@dataclass(frozen=True)
class Ended(TrialEvent):
    """A trial has ended."""

    outcome: str
    """completed, stopped, diverged or failed."""
    reason: str
    kind: str = ""
    """The kind of a failure."""


@dataclass(frozen=True)
class Evaluated(TrialEvent):
    """A trial's best epoch has been evaluated on the validation part."""

    epoch: int
    val: Json
    """The evaluation, without the curves."""
    cost: Cost
    """The cost of using its network, measured with nothing beside it."""


@dataclass(frozen=True)
class Unevaluated(EventData):
    """Trials that could not be evaluated."""

    reasons: dict[str, list[str]]
    """The trials, by the reason."""


@dataclass(frozen=True)
class Opened(TrialEvent):
    """The test part is about to be looked at."""

    ALWAYS: ClassVar = frozenset({"epoch", "by"})
    epoch: int = 0
    by: str = "search.run"
    """The verb."""


@dataclass(frozen=True)
class Tested(TrialEvent):
    """A trial has been evaluated on the test part."""

    epoch: int
    test: Json
    """The evaluation."""
    passed_over: dict[str, str] | None = None
    """Better trials of the search whose checkpoints are damaged, with the damage."""
    by: str = "search.run"
    """The verb, in a journal that does not tell that the test part was opened."""


@dataclass(frozen=True)
class Evidence(TrialEvent):
    """A file, or a folder, that is worth keeping with a trial's run, or with the search's own."""

    file: str
    """Its path in the search's folder."""
    path: str
    """The folder in the run's artifacts."""


@dataclass(frozen=True)
class Freed(EventData):
    """Checkpoints are removed that are not to be kept any more."""

    trials: list[str]
    """The trials that have none now."""
    keep: str
    """The checkpoints that were to be kept: `needed` or `answer`."""
    bytes: int


@dataclass(frozen=True)
class Enough(EventData):
    """No further trial is started."""

    reason: str
    expected: float
    """The gain that is expected of further trials, in points of the metric."""
    wanted: float
    """The least gain that is worth them, in the same unit."""
    ahead: int
    """The number of further trials."""


@dataclass(frozen=True)
class Risked(EventData):
    """The risk of stopping the trials that wait when the search ends."""

    ALWAYS: ClassVar = frozenset({"new"})
    chance: float
    """The chance that the best of all is among them."""
    epochs: int
    """About the number of further epochs that would halve it."""
    new: float = 0.0
    """The chance that as many epochs of new trials find a better one; 0 if there are none left."""


@dataclass(frozen=True)
class Finished(EventData):
    """The search's session has ended."""

    outcome: str
    """completed, budget, gain, stopped, interrupted or lost."""
    reason: str


@dataclass(frozen=True)
class Change:
    """The change of a parameter's domain, in words."""

    path: str
    kind: str
    """The kind of change, in a word.

    `narrowed`, `finer` (new numbers between the old) and `dropped` (options) are changes within the
    domain. Where the best lies at an edge, the kind is `widened`, `edge` (it cannot be widened), or
    `doubtful` (it is not clear that it gets better there). Of all that stay as they are it is
    `unclear`, or `kept` for another reason.
    """
    text: str
    flag: str = ""
    """At an edge, the part of the text that says so."""
    is_clear: bool = False
    """True if the parameter's effect is clear."""


@dataclass(frozen=True)
class Refined(EventData):
    """A round of a refinement begins."""

    HOLDS: ClassVar = {"changes": Change}
    INSIDE: ClassVar = {"experiment": ExperimentFacts}
    round: int
    experiment: Json
    """The search with its new space."""
    known: int
    """The number of trials that were known."""
    before: float
    """The best value of these."""
    changes: list[Change]


@dataclass(frozen=True)
class Settled(EventData):
    """The refinement has come to its end."""

    reason: str


@dataclass(frozen=True)
class Dropped(EventData):
    """A candidate has left the race."""

    candidate: str
    seeds: int
    """After how many seeds."""
    reason: str
    difference: float | None = None
    """Of one that is clearly worse: as in `Comparison`, as are `error` and `p`."""
    error: float | None = None
    p: float | None = None


@dataclass(frozen=True)
class Finalist:
    """The result of one candidate of a selection."""

    candidate: str
    model: str
    search_value: float
    """The value that the search found it with."""
    mean: float | None
    std: float | None
    seeds: int
    accuracies: list[float]
    """The metric's values by seed, under a name from when there was one metric alone."""
    difference: float | None
    """The leader's mean less its own, over the seeds of both.

    Of a candidate that left, it is as it was then.
    """
    p: float | None
    state: str
    """The candidate's place in the verdict, in a word.

    It is `chosen`, `tied` (as good as the leader), `behind` (not clearly, but by more than a tie
    allows), `dropped` (clearly worse) or `failed`.
    """
    reason: str
    ms_per_image: float | None


@dataclass(frozen=True)
class Selected(EventData):
    """The verdict of a selection: the candidate that was chosen, with the grounds."""

    HOLDS: ClassVar = {"expected": Expected, "rows": Finalist}
    candidate: str
    trial: str
    """The training whose network is chosen.

    Of the chosen candidate's trainings it is the best on the validation part.
    """
    leader: str
    """The candidate with the highest mean.

    It is not the one chosen where a tie went to a faster one.
    """
    expected: Expected
    search_value: float
    rows: list[Finalist]
    alpha: float
    level: float


@dataclass(frozen=True)
class Concluded(EventData):
    """The selection's session has ended."""

    outcome: str
    """completed, interrupted or lost."""
    reason: str


KINDS: dict[str, type[EventData]] = {
    "started": Started,
    "resumed": Resumed,
    "slots": Slots,
    "suggested": Suggested,
    "running": Running,
    "restored": Restored,
    "epoch": Epoch,
    "held": Held,
    "promoted": Promoted,
    "stopped": Stopped,
    "requested": Requested,
    "waiting": Waiting,
    "paused": Paused,
    "costed": Costed,
    "retried": Retried,
    "ended": Ended,
    "evaluated": Evaluated,
    "unevaluated": Unevaluated,
    "opened": Opened,
    "tested": Tested,
    "evidence": Evidence,
    "freed": Freed,
    "enough": Enough,
    "risked": Risked,
    "finished": Finished,
    "refined": Refined,
    "settled": Settled,
    "selecting": Selecting,
    "dropped": Dropped,
    "selected": Selected,
    "concluded": Concluded,
}
"""The events, by the name of their kind on the disk."""
NAMES = {made: kind for kind, made in KINDS.items()}


def kind_of(data: EventData) -> str:
    """Return the name on the disk of an event's kind."""
    return data.kind if isinstance(data, Unknown) else NAMES[type(data)]


@cache
def _kinds(made: Any) -> Kinds:
    """Return the kind of each field of an event."""
    return Kinds({**kinds_of(made), **made.INSIDE})


def from_json(kind: str, values: Json) -> EventData:
    """Return the facts of an event of this kind with these values.

    Raises:
        ValueError: one is missing, or of another kind than its field.
    """
    if kind not in KINDS:
        trial = values.get("trial", "")
        return Unknown(kind, trial if isinstance(trial, str) else "", values)
    return KINDS[kind].from_json(values)


@cache
def _written(made: type[Any]) -> tuple[tuple[str, Any], ...]:
    """Return the name of each field, and the value at which it is left out."""
    return tuple((one.name, _left_out_at(made, one)) for one in fields(made))


def _left_out_at(made: type[Any], one: Field[Any]) -> Any:
    """Return the value at which a field is left out; `MISSING` where it never is."""
    if one.name in made.ALWAYS:
        return MISSING
    return one.default if one.default_factory is MISSING else one.default_factory()


@cache
def _names(made: type[Any]) -> tuple[str, ...]:
    return tuple(one.name for one in fields(made))


def _read(made: type[Read], values: Mapping[str, Any], holds: Mapping[str, type]) -> Read:
    """Return a dataclass with those of these values that it knows.

    Raises:
        ValueError: one is missing.
    """
    if not holds:
        try:  # as of most events, such as epochs: all values are there, and known
            return made(**values)
        except TypeError:
            pass
    if not isinstance(values, Mapping):
        raise ValueError(f"{values!r} is no {made.__name__}")
    hashable: Any = made
    known = {name: values[name] for name in _names(hashable) if name in values}
    for name, held in holds.items():
        value = known.get(name)
        if isinstance(value, list):
            known[name] = [_read(held, one, {}) for one in value]
        elif value is not None:
            known[name] = _read(held, value, {})
    try:
        return made(**known)
    except TypeError as error:
        raise ValueError(f"a value is missing: {error}") from error


def _plain(value: Any) -> Any:
    """Return a field's value as JSON takes it."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value

"""The events of a search's journal: one class for each kind of event.

The fields of a class have the same names and the same order as in the file. Fields and kinds that
only a later version knows are ignored.
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
PROMOTE = "search.promote"
"""The command that uses the test set outside of sessions (`Opened.by`)."""


@dataclass(frozen=True)
class EventData:
    """The data of an event; fields that have their default value are not written."""

    ALWAYS: ClassVar[frozenset[str]] = frozenset()
    """Fields that are written even with their default value."""
    HOLDS: ClassVar[Mapping[str, type]] = {}
    """Maps each field that holds an instance of a dataclass, or a list of instances, to the
    dataclass.
    """
    INSIDE: ClassVar[Mapping[str, type]] = {}
    """Maps each field with a JSON object to the `TypedDict` of the keys that readers rely on.
    """

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Create an event from the values of a journal line.

        Raises:
            ValueError: a value is missing, or does not have the type of its field.
        """
        event_class: Any = cls
        _kinds(event_class).check(values)
        return _read(cls, values, cls.HOLDS)

    def to_json(self) -> Json:
        """Return the values to write: JSON-compatible, without defaults (except `ALWAYS`)."""
        event_class: Any = type(self)
        return {
            name: _plain(value)
            for name, default in _written(event_class)
            if (value := getattr(self, name)) != default
        }


class NamedFacts(TypedDict, total=False):
    """The keys that readers rely on in the description of a space or a model."""

    name: str


class SpaceFacts(NamedFacts, total=False):
    """The keys that readers rely on in the description of a space."""

    domains: dict[str, Json]
    reference: Json


class DataConfigFacts(TypedDict, total=False):
    """The keys that readers rely on in the `data` of a config."""

    task: str
    folds: int | None


class ConfigFacts(TypedDict, total=False):
    """The keys that readers rely on in a config."""

    epochs: int
    metric: str
    model: NamedFacts
    data: DataConfigFacts


class ExperimentFacts(TypedDict, total=False):
    """The keys that readers rely on in the description of a search."""

    space: SpaceFacts
    base: ConfigFacts
    algorithm: str
    scheduler: str
    trials: int
    seed: int
    objectives: list[str]


class DataFacts(TypedDict, total=False):
    """The keys that readers rely on in the description of a data set."""

    name: str
    root: str
    classes: list[str]
    train: int
    val: int
    test: int
    folds: int | None
    guesses: list[Json]


class PackingFacts(TypedDict, total=False):
    """The keys that readers rely on in the packing of a session."""

    members: int
    per_gpu: int


@dataclass(frozen=True)
class TrialEvent(EventData):
    """An event about one trial, or about one training of a selection."""

    trial: str


@dataclass(frozen=True)
class Unknown(EventData):
    """An event of a kind that only a later version knows."""

    kind: str
    trial: str = ""
    values: Json = field(default_factory=dict)

    def to_json(self) -> Json:
        """Return the values as they were read."""
        return self.values


@dataclass(frozen=True, kw_only=True)
class SessionStart(EventData):
    """The start of a driver's session, with everything that influences its decisions."""

    INSIDE: ClassVar = {
        "experiment": ExperimentFacts,
        "data": DataFacts,
        "packing": PackingFacts,
    }
    experiment: Json = field(default_factory=dict)
    """The search, as described by `Experiment.describe`."""
    data: Json = field(default_factory=dict)
    """The description of the data set."""
    weights: Json = field(default_factory=dict)
    """The fingerprints of the pretrained weights that trials may start from."""
    slots: int = 0
    """The number of trials that may run at once."""
    packing: Json = field(default_factory=dict)
    """The number of trials per worker, and of workers per GPU (`Packing`)."""
    provenance: dict[str, str] = field(default_factory=dict)
    """The versions, the code, the host and the user (`search.journal.provenance`)."""
    began_ms: int = 0
    """The Unix time in milliseconds at which the session's command started."""
    driver: str = ""
    """The process that runs the session, as named in its lease."""
    boot: str = ""
    """The id of the driver's machine (`lease.boot_id`), to whose clock `zero_ms` refers."""
    zero_ms: int = 0
    """The reading of that machine's monotonic clock, in ms, when the session's command started.

    Other processes on that machine use it to compute how long the session has run.
    """
    training: str = ""
    """The fingerprint of everything that a training depends on, except its config."""

    def changed_by(self, later: "SessionStart") -> Self:
        """Return this event, updated by the fields that a later session sets."""
        names = {event_field.name for event_field in fields(self)} & later.to_json().keys()
        return replace(self, **{name: getattr(later, name) for name in names})


@dataclass(frozen=True, kw_only=True)
class Started(SessionStart):
    """The start of a search."""

    version: int = 0
    """The version of the journal's format."""
    name: str = ""
    id: str = ""
    mlflow_experiment: str = ""
    """The title of the MLflow experiment; empty in journals of earlier versions."""
    space_sha256: str | None = None
    """The checksum of the user's own space file; None for a built-in space."""


@dataclass(frozen=True)
class RefinementTerms:
    """The terms of a refinement."""

    rounds: int
    """The maximum number of rounds."""
    trials: int
    """The number of new trials per round."""


@dataclass(frozen=True, kw_only=True)
class Resumed(SessionStart):
    """The start of a further session, in which a driver continues the search."""

    HOLDS: ClassVar = {"refining": RefinementTerms}
    changes: list[str] | None = None
    """The changes since the search started, one line per change."""
    space_sha256: str | None = None
    """The checksum of the space file that this session uses; None if there is none."""
    refining: RefinementTerms | None = None
    """The terms of the refinement, if this session refines the search."""


@dataclass(frozen=True, kw_only=True)
class Selecting(SessionStart):
    """The start of a session of a selection."""

    candidates: list[str]
    """The trials among which the selection chooses."""
    seeds: int
    """The maximum number of fresh seeds per candidate."""
    alpha: float
    """The error rate that all paired tests share."""
    top: int | None = None
    """The number of candidates that the user requested (`--top`)."""


@dataclass(frozen=True)
class Slots(EventData):
    """The number of trials that may run at once has changed."""

    count: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Suggested(TrialEvent):
    """A trial, or a training of a selection, is suggested."""

    INSIDE: ClassVar = {"config": ConfigFacts}
    stem: str = ""
    """The key of the training, which is equal for trials that differ only in length."""
    params: Json
    config: Json
    """The config of the training; empty if the params do not make a valid config."""
    repeat_of: str = ""
    """The candidate that is trained again, in a selection; otherwise empty."""
    seed: int | None = None
    """The fresh seed with which the candidate is trained; None outside a selection."""


@dataclass(frozen=True)
class Running(TrialEvent):
    """A trial has received a slot, and starts training."""

    ALWAYS: ClassVar = frozenset({"host"})
    attempt: int
    """The attempt number, from 1."""
    host: str = ""
    """The host that trains the trial."""


@dataclass(frozen=True)
class Restored(TrialEvent):
    """An attempt continues from a checkpoint."""

    HOLDS: ClassVar = {"begun": WarmStart}
    epoch: int
    """The epoch after which the trial continues; 0 to start from the beginning."""
    damaged: list[str]
    """Newer checkpoints that are damaged: a line for each that describes the damage."""
    begun: WarmStart | None = None
    """The warm start, if its epochs are not in the journal yet; they follow as `Epoch` events."""


@dataclass(frozen=True)
class Epoch(TrialEvent):
    """A trial has finished an epoch, counted from 1."""

    epoch: int
    metrics: dict[str, float]
    precision: str = ""
    """fp32, bf16 or fp16."""
    folds: list[dict[str, float]] = field(default_factory=list)
    """With cross-validation: the metrics of each fold. `metrics` are their means."""


@dataclass(frozen=True)
class Decided(TrialEvent):
    """A trial is held at a rung, or stopped: the base of `Held` and `Stopped`."""

    epoch: int
    by: str
    """The source of the decision: the name of the scheduler, `the race` (of a selection) or
    `a request`.
    """
    reason: str
    rung: int | None = None
    """The epoch at which trials were compared; None if they were not compared."""
    rivals: int | None = None
    """The number of trials that had reached this rung, including this trial."""
    risk: float | None = None
    """The probability that this trial would have become the best one; None if not known."""


@dataclass(frozen=True)
class Held(Decided):
    """A trial waits at a rung."""


@dataclass(frozen=True)
class Stopped(Decided):
    """A trial is stopped."""


@dataclass(frozen=True)
class Promoted(TrialEvent):
    """A trial that waited at a rung may continue."""

    epoch: int
    by: str


@dataclass(frozen=True, kw_only=True)
class Requested(EventData):
    """The driver has answered a request (`search.journal.requests`)."""

    INSIDE: ClassVar = {"changes": ExperimentFacts}
    id: str
    action: str
    """stop, pause or extend; empty if the request could not be read."""
    by: str
    """The sender: `user@host`, or `user@host (page)` for a request from a page."""
    asked_ms: int
    """Unix time in milliseconds, by the clock of the machine that sent the request."""
    answer: str
    """The answer, in words."""
    trial: str = ""
    """The trial to stop; empty for the whole search."""
    options: Json = field(default_factory=dict)
    """The options of the request, as they were written, such as `{"trials": "+20"}`."""
    is_refused: bool = False
    changes: Json = field(default_factory=dict)
    """The changed values of `Experiment.describe`."""


@dataclass(frozen=True)
class Waiting(TrialEvent):
    """A trial cannot write to its storage, and keeps trying."""

    epoch: int
    reason: str


@dataclass(frozen=True)
class Paused(TrialEvent):
    """A trial was interrupted, because the search was, or because no budget is left for it."""

    epoch: int
    reason: str


@dataclass(frozen=True)
class Costed(TrialEvent):
    """The cost of using a trial's network was measured, when the trial finished its first epoch."""

    cost: Cost


@dataclass(frozen=True)
class Retried(TrialEvent):
    """A trial is tried again after a failure."""

    kind: str
    """The kind of failure: moved, lost, hung, memory or error."""
    reason: str


@dataclass(frozen=True)
class Ended(TrialEvent):
    """A trial has ended."""

    outcome: str
    """completed, stopped, diverged or failed."""
    reason: str
    kind: str = ""
    """The kind of failure, as in `Retried`; empty if the trial has not failed."""


@dataclass(frozen=True)
class Evaluated(TrialEvent):
    """A trial's best epoch has been evaluated on the validation set."""

    epoch: int
    val: Json
    """The evaluation, without its curves."""
    cost: Cost
    """The cost of using the trial's network, measured while nothing else ran."""


@dataclass(frozen=True)
class Stressed(TrialEvent):
    """A trial's best epoch has been evaluated on corrupted or attacked images (`--evaluate`)."""

    epoch: int
    evaluation: str
    """`corruptions` or `adversarial`."""
    summary: Json
    """The result (`trainables.robustness.stress_tests.summarise_tests`)."""


@dataclass(frozen=True)
class Unevaluated(EventData):
    """Some trials could not be evaluated."""

    reasons: dict[str, list[str]]
    """The names of these trials, by the reason why they could not be evaluated."""


@dataclass(frozen=True)
class Opened(TrialEvent):
    """The test set is about to be used for this trial."""

    ALWAYS: ClassVar = frozenset({"epoch", "by"})
    epoch: int = 0
    by: str = "search.run"
    """The command that uses the test set."""
    promises: list[str] = field(default_factory=list)
    """The options of `search.promote` whose thresholds are chosen with the test set."""

    @property
    def is_in_session(self) -> bool:
        """False for a promotion, which may follow long after the search."""
        return self.by != PROMOTE


@dataclass(frozen=True)
class Tested(TrialEvent):
    """A trial has been evaluated on the test set."""

    epoch: int
    test: Json
    """The evaluation."""
    passed_over: dict[str, str] | None = None
    """Better trials that were skipped because their checkpoints are damaged.

    The names of the trials are mapped to descriptions of the damage.
    """
    by: str = "search.run"
    """The command that used the test set; read only in journals of earlier versions, which have no
    `Opened`.
    """


@dataclass(frozen=True)
class Registration(TrialEvent):
    """The model of a trial was registered (`search.promote`)."""

    model: str
    """The name of the registered model."""
    version: str
    promises: Json = field(default_factory=dict)
    """The promises about its answers (`trainables.reliability.promises.Promises`); empty without
    any."""
    reliability: Json = field(default_factory=dict)
    """How far its answers can be relied on (`Exported.reliability`); empty if not measured."""


@dataclass(frozen=True)
class Evidence(TrialEvent):
    """A file or folder that belongs to the MLflow run of a trial, or of the search."""

    file: str
    """The path of the file or folder in the search's folder."""
    path: str
    """The artifact folder of the MLflow run into which the file is copied; empty for the top
    folder.
    """


@dataclass(frozen=True)
class Freed(EventData):
    """Checkpoints that are no longer needed are about to be removed."""

    trials: list[str]
    """The trials that have no checkpoint after the removal."""
    keep: str
    """The rule for the checkpoints that stay: `needed` or `answer`."""
    bytes: int
    """The total size of the removed checkpoints."""


@dataclass(frozen=True)
class Enough(EventData):
    """No further trial will be suggested, since the expected gain is too small.

    Or since the best trial is not significantly better than guessing: then `at_chance` is not 0.
    """

    reason: str
    expected: float
    """The expected gain of further trials, in points of the metric."""
    wanted: float
    """The smallest gain that is worth further trials (`--min-gain`), in the same unit."""
    ahead: int
    """The number of further trials to which `expected` refers."""
    at_chance: int = 0
    """The number of trials that was enough (`--stop-at-chance`); 0 if the gain is too small."""


@dataclass(frozen=True)
class Risked(EventData):
    """The risk of not continuing the trials that wait at rungs when the search ends."""

    ALWAYS: ClassVar = frozenset({"new"})
    chance: float
    """The probability that the best of all trials is among the waiting trials."""
    epochs: int
    """The approximate number of further epochs that would halve `chance`."""
    new: float = 0.0
    """The probability that new trials find a better one if `epochs` epochs are spent on them.

    0 if there are no new trials.
    """


@dataclass(frozen=True)
class Finished(EventData):
    """A session of the search has ended."""

    outcome: str
    """completed, budget, gain, stopped, interrupted or lost."""
    reason: str


@dataclass(frozen=True)
class Change:
    """A change of a parameter's domain by a refinement, or a note on domains that do not change."""

    path: str
    """The parameter's path; empty for a note on several parameters."""
    kind: str
    """The kind of change.

    Changes within the domain are `narrowed`, `finer` (new numbers between the old ones) and
    `dropped` (options). If the best value is at an edge, the kind is `widened`, `edge` (the domain
    cannot be widened) or `doubtful` (values beyond the edge are not clearly better). A note on
    parameters that keep their domains is `unclear` (they have no clear effect) or `kept` (for
    another reason). If the new domains together are not a valid space, the kind is `refused`.
    """
    text: str
    """The change in words."""
    flag: str = ""
    """The part of `text` that states that the best value is at an edge; empty if there is none.
    """
    is_clear: bool = False
    """True if the parameter clearly has an effect."""


@dataclass(frozen=True)
class Refined(EventData):
    """A round of a refinement starts."""

    HOLDS: ClassVar = {"changes": Change}
    INSIDE: ClassVar = {"experiment": ExperimentFacts}
    round: int
    experiment: Json
    """The search with its new space."""
    known: int
    """The number of trials before this round; the new space is based on their results."""
    before: float
    """The best value of the trials before this round."""
    changes: list[Change]


@dataclass(frozen=True)
class Settled(EventData):
    """The refinement has ended."""

    reason: str


@dataclass(frozen=True)
class Dropped(EventData):
    """A candidate is dropped from a selection, and is not trained with further seeds."""

    candidate: str
    seeds: int
    """The number of seeds over which the candidates were compared."""
    reason: str
    difference: float | None = None
    """The leader's mean minus the candidate's.

    `error` and `p` are the standard error and the p-value of this difference
    (`statistics.Comparison`). All three are None if the candidate was dropped because its trainings
    failed.
    """
    error: float | None = None
    p: float | None = None


@dataclass(frozen=True)
class Finalist:
    """The result of one candidate of a selection."""

    candidate: str
    model: str
    search_value: float
    """The value of the metric in the search."""
    mean: float | None
    std: float | None
    seeds: int
    accuracies: list[float]
    """The values of the metric, one per seed.

    The name is from a version in which accuracy was the only metric.
    """
    difference: float | None
    """The leader's mean minus the candidate's, over the seeds that both have.

    For a dropped candidate, this is the difference at the time when it was dropped.
    """
    p: float | None
    state: str
    """The candidate's state in the verdict.

    It is `chosen`, `tied` (as good as the leader), `behind` (the difference is too large for a tie,
    but not significant), `dropped` (clearly worse) or `failed`.
    """
    reason: str
    ms_per_image: float | None


@dataclass(frozen=True)
class Selected(EventData):
    """The verdict of a selection: the chosen candidate, with the reasons."""

    HOLDS: ClassVar = {"expected": Expected, "rows": Finalist}
    candidate: str
    trial: str
    """The training whose network is chosen.

    It is the candidate's training with the best value on the validation set, or the average of its
    trainings (`Averaged`).
    """
    leader: str
    """The candidate with the best mean. If a faster candidate is tied with the leader, the faster
    one is chosen.
    """
    expected: Expected
    search_value: float
    rows: list[Finalist]
    alpha: float
    level: float


@dataclass(frozen=True)
class Averaged(TrialEvent):
    """The weights of the chosen candidate's trainings were averaged, as one more network."""

    candidate: str
    members: list[str]
    """The names of the trainings."""
    params: Json
    config: Json
    """The config of the first of them."""
    epoch: int
    """The last epoch of the members, after which their weights were averaged.

    It is also the number of the new network's checkpoint.
    """
    metrics: dict[str, float]
    precision: str
    gain: float
    """The network's accuracy on the validation images minus the mean accuracy of the members after
    the same epoch.
    """
    error: float
    """The standard error of the gain over the images."""


@dataclass(frozen=True)
class Pooled(TrialEvent):
    """An ensemble was made of some trials: a model that predicts their mean probabilities.

    The event is written again after a resume if the same trials would be combined.
    """

    members: list[str]
    """The names of the trials, the best first."""
    config: Json
    """The config of the first of them, with those of all of them as `members`."""
    metrics: dict[str, float]
    precision: str
    gain: float
    """The ensemble's accuracy on the validation images minus that of its first member."""
    error: float
    """The standard error of the gain over the images."""
    is_chosen: bool
    """True if the ensemble is the answer of the search, instead of the best trial."""


@dataclass(frozen=True)
class Concluded(EventData):
    """A session of the selection has ended."""

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
    "stressed": Stressed,
    "unevaluated": Unevaluated,
    "opened": Opened,
    "tested": Tested,
    "registration": Registration,
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
    "averaged": Averaged,
    "pooled": Pooled,
    "concluded": Concluded,
}
"""The event classes, by the name of the kind in the journal."""
NAMES = {event_class: kind for kind, event_class in KINDS.items()}


def kind_of(data: EventData) -> str:
    """Return the name of an event's kind in the journal."""
    return data.kind if isinstance(data, Unknown) else NAMES[type(data)]


@cache
def _kinds(event_class: Any) -> Kinds:
    """Return the types of an event's fields."""
    return Kinds({**kinds_of(event_class), **event_class.INSIDE})


def from_json(kind: str, values: Json) -> EventData:
    """Create an event of this kind; `Unknown` for a kind of a later version.

    Raises:
        ValueError: a value is missing, or does not have the type of its field.
    """
    if kind not in KINDS:
        trial = values.get("trial", "")
        return Unknown(kind, trial if isinstance(trial, str) else "", values)
    return KINDS[kind].from_json(values)


@cache
def _written(event_class: type[Any]) -> tuple[tuple[str, Any], ...]:
    """Return (name, default) of each field.

    The default is `MISSING` for a field that is always written.
    """
    return tuple(
        (event_field.name, _omitted_default(event_class, event_field))
        for event_field in fields(event_class)
    )


def _omitted_default(event_class: type[Any], event_field: Field[Any]) -> Any:
    if event_field.name in event_class.ALWAYS:
        return MISSING
    return (
        event_field.default
        if event_field.default_factory is MISSING
        else event_field.default_factory()
    )


@cache
def _names(data_class: type[Any]) -> tuple[str, ...]:
    return tuple(data_field.name for data_field in fields(data_class))


def _read(data_class: type[Read], values: Mapping[str, Any], holds: Mapping[str, type]) -> Read:
    """Create an instance of a dataclass from JSON values; values without a field are ignored.

    `holds` has the dataclasses of inner values, as in `EventData.HOLDS`.

    Raises:
        ValueError: a value is missing.
    """
    if not holds:
        try:  # the fast path, for most events: exactly the fields of this class
            return data_class(**values)
        except TypeError:
            pass
    if not isinstance(values, Mapping):
        raise ValueError(
            f"expected a JSON object with {', '.join(_names(data_class))}, got {values!r:.80}"
        )
    hashable: Any = data_class
    arguments = {name: values[name] for name in _names(hashable) if name in values}
    for name, inner_class in holds.items():
        value = arguments.get(name)
        if isinstance(value, list):
            arguments[name] = [_read(inner_class, item, {}) for item in value]
        elif value is not None:
            arguments[name] = _read(inner_class, value, {})
    try:
        return data_class(**arguments)
    except TypeError as error:
        raise ValueError(f"a value is missing: {error}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value

"""Register the challenger that an improvement has chosen, with a reference of its own."""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from search.feedback.learning.champion import ChampionModel
from search.feedback.learning.corrected import HELD_OUT, TRAINING
from search.feedback.learning.decision import CHAMPION, luck_of
from search.feedback.learning.expected import expected_images, trained_image_names
from search.feedback.learning.joining import FOLDER, ImprovementInfo, load_set_aside
from search.feedback.learning.rounds import rounds_of
from search.feedback.monitoring.held_to import MIN_TESTED
from search.feedback.records import Records
from search.journal.result import SearchResult, TrialResult
from search.journal.store import Home, Storage, home
from search.tracking.model_registry import (
    ALIAS,
    CHALLENGER,
    ONNX,
    PROMISES,
    Registered,
    Registry,
    origin_of,
)
from search.trained.description import describe_model, tags
from search.trained.export import export_for_registry
from search.values.message import Remedy, Start
from trainables.errors import counted
from trainables.export import reference
from trainables.export.model import model_class
from trainables.reliability.promises import NO_PROMISES, Promises
from trainables.values import Json

TRY_CHALLENGER = Remedy("serve", options={"shadow": "challenger"}, start=Start.MODULE)
"""The command that serves the champion and compares the challenger with it."""


@dataclass(frozen=True, kw_only=True)
class ChosenChallenger:
    """The challenger that an improvement has chosen, with what is needed to register it."""

    champion_model: ChampionModel
    """The champion with which the challenger was compared."""
    home: Home
    """The place of the improvement's search."""
    result: SearchResult
    """The result of the improvement's search."""
    facts: Json
    """The decision, as `decision_facts` reads it from its file."""
    place: Storage
    """The place of the records. The images that the challenger is expected to receive are sampled
    from these records.
    """
    onnx: bool | None
    """True to register the challenger as ONNX too; None to do so only if the champion is."""

    @property
    def storage(self) -> Storage:
        """The storage of the searches."""
        return self.champion_model.data.experiment.storage

    @property
    def trial(self) -> TrialResult:
        """The trial that trained the challenger, or the ensemble of all trials."""
        challenger = self.result.find(self.facts["challenger"])
        assert challenger is not None
        return challenger

    @property
    def is_wanted_as_onnx(self) -> bool:
        """True if the challenger has to be registered as ONNX too."""
        champion_model = self.champion_model
        if self.onnx is not None or not champion_model.champion.version:
            return bool(self.onnx)
        return ONNX in origin_of(champion_model.source, champion_model.tracking).tags

    @property
    def champion_promises(self) -> Promises:
        """The promises of the champion, which the challenger has to keep too."""
        champion_model = self.champion_model
        if not champion_model.champion.version:
            return NO_PROMISES
        tags = origin_of(champion_model.source, champion_model.tracking).tags
        return Promises(**json.loads(tags[PROMISES])) if PROMISES in tags else NO_PROMISES


def register(challenger: ChosenChallenger) -> Registered:
    """Register a challenger, unless it is registered already, and set its aliases.

    If the registration fails, it is tried again when the command is repeated.
    """
    champion = challenger.champion_model.champion
    is_champion = challenger.facts["outcome"] == CHAMPION
    aliases = [CHALLENGER, *([ALIAS] if is_champion else [])]
    registry = Registry(challenger.champion_model.tracking, challenger.result, challenger.storage)
    version = registry.version_with(champion.model, tags(challenger.result, challenger.trial))
    if not version:
        version = export_and_register(challenger, registry)
    over = {"search.id": champion.id, "search.trial": champion.trial}
    return registry.set_aliases(champion.model, version, aliases, over)


def export_and_register(challenger: ChosenChallenger, registry: Registry) -> str:
    """Export a challenger, register it without an alias, and return its version.

    Side effect: sets `facts["watched"]`, the result of `add_expected`.
    """
    result, trial, facts = challenger.result, challenger.trial, challenger.facts
    champion = challenger.champion_model.champion
    with tempfile.TemporaryDirectory(prefix="promote-") as temporary:
        exported = export_for_registry(
            result,
            challenger.home,
            trial,
            challenger.home.read(FOLDER),
            Path(temporary) / "classifier",
            onnx=challenger.is_wanted_as_onnx,
            promises=challenger.champion_promises,
        )
        facts["watched"] = add_expected(challenger, exported.folder)
        text = "\n".join(
            [
                describe_model(result, trial, exported),
                "",
                f"It improves on {champion.trial} of the search {champion.search}, with "
                f"{facts['images'][TRAINING]:,} corrected images: {'; '.join(facts['text'])}.",
            ]
        )
        improves = {"improves.version": champion.version} if champion.version else {}
        return registry.register(champion.model, exported, text, tags(result, trial) | improves)


def add_expected(challenger: ChosenChallenger, folder: Path) -> Json:
    """Add the expected images to the reference of an exported challenger.

    They are a sample of the images that the challenger will probably receive. `search.monitor`
    compares later images with this sample.

    Args:
        challenger: the challenger.
        folder: the folder to which it was exported.

    Returns:
        Numbers of images: "met" is the size of the sample, "labelled" counts the images of known
        class, and "trained" counts the recorded images that the challenger was trained on. "lost"
        is the name of the first champion's search if that search no longer exists, otherwise empty.
    """
    joined, storage = challenger.home.read(FOLDER), challenger.storage
    old_reference, info = reference.read(folder), ImprovementInfo.read(joined)
    rounds = rounds_of(info, storage)
    assert old_reference is not None  # it has just been exported
    expected = expected_images(
        model_class(folder)(folder, "the challenger").predictions,
        old_reference,
        Records.at(challenger.place),
        info,
        load_set_aside(joined)[HELD_OUT],
        trained_image_names(rounds),
        challenger.result.started_ms,  # the start of the first session
        luck_of(challenger.facts),
    )
    reference.add(folder, expected)
    first = rounds[0].champion.search
    return {
        "met": len(expected.probabilities),
        "labelled": len(expected.targets),
        "trained": len(expected.trained),
        "lost": "" if home(storage, first).exists() else first,
    }


def registered_lines(registered: Registered, facts: Json) -> list[str]:
    """Describe the registered version, its aliases, and how to use it, in lines of text."""
    name, before = registered.name, registered.before
    line = f"version {registered.version} of {name} is models:/{name}@{registered.aliases[-1]}"
    if watched := facts.get("watched"):
        line += f"; {watched_text(watched)}"
    if facts["outcome"] != CHAMPION:
        return [line]
    if ALIAS in registered.aliases:
        return [f"{line}; it was version {before}" if before else line]
    promote = Remedy(
        "promote",
        facts["search"],
        options={"trial": facts["challenger"], "model": name},
        start=Start.MODULE,
    )
    return [
        f"{line} only: the champion is now version {before}, with which it was not compared. Try "
        f"it with {TRY_CHALLENGER}, or make it the champion yourself: {promote}"
    ]


def watched_text(watched: Json) -> str:
    """Describe the images with which later ones will be compared.

    The text also names the first champion's search if that no longer exists.
    """
    text = held_to_text(watched)
    if lost := watched["lost"]:
        text += (
            f"; {lost} no longer exists: if it was an improvement, the images that it learned "
            "from count as new"
        )
    return text


def held_to_text(watched: Json) -> str:
    """Describe the images with which `search.monitor` will compare later ones, in a clause."""
    if not watched["met"]:
        return (
            "search.monitor compares new images with the old validation images, because too few "
            "of the images received before were stored and not trained on"
        )
    labelled_text = (
        f"that on {watched['labelled']:,} images of known class that it was not trained on"
    )
    if watched["labelled"] < MIN_TESTED:
        labelled_text = (
            f"nothing, because only {counted(watched['labelled'], 'image')} of known class can "
            f"represent all images, and {MIN_TESTED} are needed (correct or confirm the images "
            "that search.label shows, whatever the answer is)"
        )
    images = counted(watched["met"], "image")
    return (
        f"search.monitor compares new images with {images} received before, and its accuracy with "
        f"{labelled_text}"
    )

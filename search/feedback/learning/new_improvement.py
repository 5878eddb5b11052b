"""A new improvement: its name, its joined data set, and the experiment of its challengers."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cluster.errors import Refused
from search.design.budget import Budget
from search.design.experiment import Experiment
from search.feedback.learning.challengers import challenger_experiment
from search.feedback.learning.champion import ChampionModel
from search.feedback.learning.corrected import MIN_NEW_IMAGES, CorrectedImages
from search.feedback.learning.decision import obstacles
from search.feedback.learning.joining import (
    INFO_FILE,
    ChampionIdentity,
    ImprovementInfo,
    improvement_info,
    joined_data_config,
    write_folder,
)
from search.feedback.learning.registering import TRY_CHALLENGER
from search.feedback.learning.rounds import name_stem
from search.feedback.records import Records
from search.journal.store import Home
from search.values.message import Message
from trainables.errors import counted
from trainables.values import Json


@dataclass(frozen=True, kw_only=True)
class NewImprovement:
    """An improvement with the champion and the images that it learns from."""

    name: str
    home: Home
    """The place where the improvement's search is stored."""
    champion_model: ChampionModel
    records: Records
    corrections: CorrectedImages
    info: ImprovementInfo

    def requirements(self, margin: float) -> tuple[int, int, float, float]:
        """Collect the arguments of `requirement_lines` and `obstacles`.

        Returns:
            The number of held-out new images that were chosen independently of the champion's
            answers, the number of old test images, the margin as a share, and the error rate of the
            test on new images.
        """
        dataset = self.champion_model.data.dataset
        assert dataset.test is not None
        alpha = self.info.alpha(self.records.deciding_images())
        return len(self.info.fair_rows()), len(dataset.test), margin, alpha

    def join(self, folder: Path) -> ImprovementInfo:
        """Write the joined data set to a folder, unless it is there already; return the info."""
        if (folder / INFO_FILE).exists():
            written = ImprovementInfo.read(folder)
            if written.is_same_as(self.info):
                return written
        folder.parent.mkdir(parents=True, exist_ok=True)
        champion_model = self.champion_model
        dataset, checkpoint = champion_model.data.dataset, champion_model.checkpoint
        write_folder(folder, self.info, dataset, self.corrections, checkpoint)
        return self.info

    def challengers(
        self, folder: Path, warm_start: str, *, trials: int, budget: Budget
    ) -> Experiment:
        """Build the experiment that trains the challengers.

        Args:
            folder: the folder of the joined data set.
            warm_start: the champion's checkpoint in this folder; empty for a baseline and for an
                ensemble.
            trials: the number of challengers.
            budget: the budget of their training.
        """
        data = self.champion_model.data
        joined = joined_data_config(data.config.data, folder, len(data.dataset.val))
        return challenger_experiment(
            self.name, data, joined, warm_start, trials=trials, budget=budget
        )


def name_of(champion: ChampionIdentity, corrections: CorrectedImages) -> str:
    """Default name of the improvement's search.

    It depends only on the champion, the new images and their labels.
    """
    about_it = [
        champion.id,
        champion.trial,
        *sorted((correction.image, correction.label) for correction in corrections.new),
    ]
    return name_stem(champion) + hashlib.sha256(json.dumps(about_it).encode()).hexdigest()[:6]


def new_improvement_info(
    champion_model: ChampionModel,
    place: str,
    corrections: CorrectedImages,
    suspected: float,
    since_ms: int,
) -> ImprovementInfo:
    """Describe a new improvement.

    Args:
        champion_model: the champion.
        place: the place of the records.
        corrections: the corrected images, by use.
        suspected: the estimated share of wrong corrections.
        since_ms: a Unix time in milliseconds; images answered since then represent those that the
            new model will receive.
    """
    warm = ""
    config = champion_model.data.config
    if not (config.model.is_baseline or config.members):
        manifest = (champion_model.checkpoint / "manifest.json").read_bytes()
        warm = f"champion-{hashlib.sha256(manifest).hexdigest()[:8]}"
    info = improvement_info(champion_model.champion, place, corrections, suspected, warm)
    return replace(info, since_ms=since_ms)


def refuse_hopeless(improvement: NewImprovement, margin: float) -> None:
    """Check that a challenger can become the champion.

    Raises:
        Refused: no challenger could become the champion, no matter how good it is.
    """
    reasons = obstacles(*improvement.requirements(margin))
    if not reasons:
        return
    lines = "\n".join(f"  {line}" for line in reasons)
    raise Refused(
        Message(
            "nothing was started, because even a perfect model could not become the "
            f"champion:\n{lines}\nWith --challenger, models are trained anyway, but the best "
            "model can get only the alias 'challenger'. To compare it with the champion on new "
            "images afterwards: ",
            TRY_CHALLENGER,
        )
    )


def budget_text(experiment: Experiment) -> str:
    """Describe the challengers, in the order in which they are trained, and the budget's limits."""
    count = experiment.planned_trials
    if experiment.space.combine > 1:
        return f"the {count} members of the champion's ensemble trained from scratch"
    if count == 1:
        return "the champion's config trained from scratch"
    within = " and ".join(map(str, experiment.budget.limits))
    text = (
        f"{count} challengers of up to {counted(experiment.horizon, 'epoch')}: the champion "
        "trained further (2), its config trained from scratch (1), and a search around it "
        f"({count - 3}), in this order"
    )
    return f"{text}, within {within}" if within else text


def data_facts(info: ImprovementInfo) -> Json:
    """Summarise the champion and the corrections as JSON-compatible values."""
    left_out = [asdict(image) for image in info.left_out]
    return {
        "champion": asdict(info.champion),
        "images": {use: info.count(use) for use in MIN_NEW_IMAGES},
        "left_out": left_out,
        "suspected": info.suspected,
    }

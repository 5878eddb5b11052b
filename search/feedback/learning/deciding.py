"""Decide on an improvement: choose the best challenger, and compare it with the champion."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from search.feedback.learning.champion import ChampionModel, ChampionRequest, load_champion
from search.feedback.learning.corrected import HELD_OUT, MIN_NEW_IMAGES, SELECTION
from search.feedback.learning.decision import (
    Decision,
    FirstChampion,
    GroupComparison,
    ScoredChallenger,
    best_challenger,
)
from search.feedback.learning.joining import FOLDER, ImprovementInfo, load_set_aside
from search.feedback.learning.paired import PairedComparison
from search.feedback.learning.rounds import rounds_to
from search.feedback.learning.trained import LoadedCheckpoint
from search.feedback.records import Records
from search.journal.result import SearchResult
from search.journal.store import Home, home
from search.trained.export import config_of, dataset_of, local_checkpoint
from trainables.datasets.arrays import Dataset, Part
from trainables.disk import read_regular
from trainables.errors import printable
from trainables.fairness.groups import LEAST_IMAGES

FIRST = "first.json"
"""Name of the file that lists which old test images the first champion of all rounds classifies
correctly.
"""


def decide_outcome(
    request: ChampionRequest,
    champion_model: ChampionModel,
    search_home: Home,
    result: SearchResult,
    info: ImprovementInfo,
    *,
    records: Records,
    margin: float,
) -> Decision:
    """Compare the best challenger with the champion, and note in the records by which images.

    Args:
        request: the options to load the first champion of all rounds.
        champion_model: the champion.
        search_home: the place of the improvement's search.
        result: the result of the improvement's search.
        info: the description of the improvement.
        records: the records from which the improvement was started.
        margin: the allowed loss of accuracy on the old test images, as a share.
    """
    folder, data = search_home.read(FOLDER), champion_model.data
    parts, fair, is_fair = fair_parts(folder, info)
    alpha = info.alpha(records.deciding_images(), result.started.id)
    trials = [trial for trial in result.candidates if not trial.is_freed]
    configs = {trial.trial: config_of(result, trial, folder) for trial in trials}
    dataset = dataset_of(result, configs[trials[0].trial])
    challengers = {
        trial.trial: LoadedCheckpoint(
            configs[trial.trial], dataset, local_checkpoint(search_home, trial)
        )
        for trial in trials
    }
    shares = {
        name: float(challenger.correct_predictions(parts[SELECTION]).mean())
        for name, challenger in challengers.items()
    }
    candidates = [ScoredChallenger(t.trial, t.primary_value, shares[t.trial]) for t in trials]
    best = challengers[trial := best_challenger(candidates).trial]
    champion = LoadedCheckpoint(data.config, data.dataset, champion_model.checkpoint)
    assert dataset.test is not None
    on_new = champion.correct_predictions(parts[HELD_OUT])
    on_old, best_on_old = (each.correct_predictions(dataset.test) for each in (champion, best))
    note_deciding_images(records, result.started.id, info, fair if is_fair else None)
    return Decision(
        trial,
        tuple(candidates),
        PairedComparison.of(on_new, best.correct_predictions(parts[HELD_OUT])),
        PairedComparison.of(on_old, best_on_old),
        float(on_new.mean()),
        float(on_old.mean()),
        margin,
        champion.ms_per_image(),
        best.ms_per_image(),
        alpha,
        len(fair),
        is_fair=is_fair,
        first=compare_first_champion(request, champion_model, search_home, on_old, best_on_old),
        groups=compare_groups(dataset, on_old, best_on_old),
    )


def compare_groups(
    dataset: Dataset, champion: NDArray[np.bool_], challenger: NDArray[np.bool_]
) -> tuple[GroupComparison, ...]:
    """Compare two models in each group of the test images that is large enough (`LEAST_IMAGES`).

    Args:
        dataset: the data set; the result is empty if its images belong to no groups.
        champion, challenger: True for each test image that the model classifies correctly,
            (images,).
    """
    if dataset.test is None or (attributes := dataset.attributes) is None:
        return ()
    numbers = attributes.numbers(dataset.test.names or ())
    comparisons = list[GroupComparison]()
    for title in attributes.titles:
        for value, groups in attributes.values(title).items():
            rows = np.isin(numbers, groups)
            if rows.sum() >= LEAST_IMAGES:
                comparisons.append(
                    GroupComparison(
                        printable(f"{title}={value}"),
                        PairedComparison.of(champion[rows], challenger[rows]),
                        float(champion[rows].mean()),
                    )
                )
    return tuple(comparisons)


def fair_parts(folder: Path, info: ImprovementInfo) -> tuple[dict[str, Part], list[int], bool]:
    """Load the images that were set aside.

    Returns:
        parts: the images, by their use.
        fair: the positions of the held-out images that were chosen independently of the champion's
            answers.
        is_fair: True if there are enough fair images. In that case, the held-out images in `parts`
            are only the fair ones.
    """
    parts, fair = load_set_aside(folder), info.fair_rows()
    is_fair = len(fair) >= MIN_NEW_IMAGES[HELD_OUT]
    if is_fair:
        parts[HELD_OUT] = parts[HELD_OUT].take(np.array(fair))
    return parts, fair, is_fair


def note_deciding_images(
    records: Records, improvement: str, info: ImprovementInfo, rows: Sequence[int] | None
) -> None:
    """Note in the records which held-out images have decided an improvement.

    Args:
        records: the records; nothing is noted if they were deleted.
        improvement: the id of the improvement's search.
        info: the description of the improvement.
        rows: the positions of these images among the held-out ones; None for all.
    """
    if records.info is not None:
        set_aside = [image["image"] for image in info.images if image["use"] == HELD_OUT]
        images = set_aside if rows is None else [set_aside[row] for row in rows]
        records.note_deciding_images(improvement, images)


def compare_first_champion(
    request: ChampionRequest,
    champion_model: ChampionModel,
    search_home: Home,
    champion: NDArray[np.bool_],
    challenger: NDArray[np.bool_],
) -> FirstChampion | None:
    """Compare the challenger with the first champion of all rounds; None if that is the champion.

    Each improvement stores which old test images the first champion predicts correctly, because
    that champion's search may be deleted. If an earlier version did not store them, the champion of
    the earliest improvement that still exists counts as the first.

    Args:
        request: the options with which the first champion is loaded.
        champion_model: the champion.
        search_home: the place of the improvement's search.
        champion: True for each old test image that the champion classifies correctly, (images,).
        challenger: the same for the challenger.
    """
    name, rights = f"{champion_model.champion.trial} of {champion_model.champion.search}", champion
    if FIRST in champion_model.home.names():
        facts = json.loads(read_regular(champion_model.home.read(FIRST)))
        name, rights = facts["name"], np.array([digit == "1" for digit in facts["rights"]])
    elif (rounds := rounds_to(champion_model)) and home(
        request.storage, (first_champion := rounds[0].champion).search
    ).exists():
        name, rights = (
            f"{first_champion.trial} of {first_champion.search}",
            correct_on_test_images(load_champion(request, first_champion)),
        )
    facts = {"name": name, "rights": "".join(map(str, rights.astype(int)))}
    search_home.write(FIRST, json.dumps(facts).encode())
    if rights is champion:
        return None
    return FirstChampion(name, PairedComparison.of(rights, challenger), float(rights.mean()))


def correct_on_test_images(champion_model: ChampionModel) -> NDArray[np.bool_]:
    """True for each old test image that the champion classifies correctly, (images,)."""
    champion_data = champion_model.data
    assert champion_data.dataset.test is not None
    return LoadedCheckpoint(
        champion_data.config, champion_data.dataset, champion_model.checkpoint
    ).correct_predictions(champion_data.dataset.test)

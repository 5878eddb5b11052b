"""The improvements that led to a model, and their decisions, read from their searches."""

import json
import re

from search.feedback.learning.champion import ChampionModel
from search.feedback.learning.decision import UNCHANGED
from search.feedback.learning.joining import (
    FOLDER,
    INFO_FILE,
    ChampionIdentity,
    ImprovementInfo,
    unseen_corrections,
)
from search.feedback.records import Records
from search.journal.store import DECISION, Home, Storage, home, searches_in
from trainables.disk import read_regular
from trainables.values import Json


def info_of(search_home: Home) -> ImprovementInfo:
    """Read the info of an improvement; in a bucket, only this file is downloaded."""
    return ImprovementInfo.read(search_home.read(f"{FOLDER}/{INFO_FILE}").parent)


def rounds_to(champion_model: ChampionModel) -> list[ImprovementInfo]:
    """Read the improvements that led to a champion, oldest first; empty for an original model."""
    if FOLDER not in champion_model.home.names():
        return []
    return rounds_of(info_of(champion_model.home), champion_model.data.experiment.storage)


def rounds_of(info: ImprovementInfo, storage: Storage) -> list[ImprovementInfo]:
    """Read the improvements that led to this one, oldest first; the last element is `info` itself.

    The list begins after the latest improvement that no longer exists.
    """
    rounds, names = [info], set[str]()
    while (name := rounds[0].champion.search) not in names:
        names.add(name)
        search_home = home(storage, name)
        if not search_home.exists() or FOLDER not in search_home.names():
            break
        rounds.insert(0, info_of(search_home))
    return rounds


def decision_facts(search_home: Home) -> Json | None:
    """Read the decision from an improvement's search; None if none has been made."""
    if DECISION not in search_home.names():
        return None
    facts: Json = json.loads(read_regular(search_home.read(DECISION)))
    return facts


def is_settled(facts: Json | None) -> bool:
    """True if a decision was made, and no model has to be registered any more."""
    return facts is not None and (bool(facts["version"]) or is_unchanged(facts))


def is_unchanged(facts: Json) -> bool:
    """True if the decision was to register no model."""
    return bool(facts["outcome"] == UNCHANGED)


def improvement_to_continue(
    champion_model: ChampionModel, records: Records, place: str
) -> Home | None:
    """Find the improvement that a call continues or reports; None to start a new one.

    The first choice is an improvement of this champion, from the same records, whose decision was
    not made or not carried out. The second choice is the improvement that produced this champion,
    if nothing was corrected since then.
    """
    champion, storage = champion_model.champion, champion_model.data.experiment.storage
    for name in searches_in(storage):
        search_home = home(storage, name)
        if not name.startswith(name_stem(champion)) or is_settled(decision_facts(search_home)):
            continue
        if FOLDER in search_home.names():
            info = info_of(search_home)
            same = (info.champion.id, info.champion.trial) == (champion.id, champion.trial)
            if same and info.place == place:
                return search_home
    if (
        FOLDER not in champion_model.home.names()
        or (info := info_of(champion_model.home)).place != place
    ):
        return None
    return None if unseen_corrections(info, records.corrections().values()) else champion_model.home


def name_stem(champion: ChampionIdentity) -> str:
    """Beginning of the default names of a model's improvements."""
    stem = re.sub("[^A-Za-z0-9._-]+", "-", champion.model).lstrip(".-")[:45]
    return f"{stem or 'model'}-improved-"

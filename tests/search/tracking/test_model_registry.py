"""The aliases that a version is given, what is said if not all are, and the models there are."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow import MlflowClient

from cluster.errors import NotReady
from search.tracking import model_registry
from search.tracking.model_registry import ALIAS, CHALLENGER, Registry, models_in

OLD, OTHER = {"search.id": "1", "search.trial": "t0001"}, {"search.id": "2"}


class Client:
    """MLflow's registry, with one champion, version 1."""

    def __init__(self, refuses: str = "") -> None:
        self.aliases, self.refuses = {ALIAS: "1"}, refuses

    def get_registered_model(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(aliases=self.aliases)

    def get_model_version(self, name: str, version: str) -> SimpleNamespace:
        return SimpleNamespace(tags=OLD)

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        if alias == self.refuses:
            raise ConnectionError("gone")
        self.aliases[alias] = version


def registry(client: Client) -> Registry:
    made = object.__new__(Registry)
    made.uri, made.client = "http://mlflow", client  # type: ignore[assignment]
    return made


@pytest.mark.parametrize(("over", "champion"), [(None, "2"), (OLD, "2"), (OTHER, "1")])
def test_only_the_champion_that_was_compared_is_followed(
    over: dict[str, str] | None, champion: str
) -> None:
    client = Client()
    given = registry(client).set_aliases("pets", "2", (CHALLENGER, ALIAS), over)
    assert client.aliases == {CHALLENGER: "2", ALIAS: champion}
    assert (ALIAS in given.aliases) == (champion == "2")


def test_if_an_alias_is_not_taken_it_is_told_which_were() -> None:
    with pytest.raises(NotReady, match=r"Version 2 of pets is registered as .*@challenger;"):
        registry(Client(refuses=ALIAS)).set_aliases("pets", "2", (CHALLENGER, ALIAS))


def test_models_are_told_with_their_versions_and_each_is_found_by_its_name(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MlflowClient(database)
    for name in ("cats", "it's", "pets"):
        client.create_registered_model(name)
    for _ in range(2):
        client.create_model_version("pets", str(tmp_path), tags={"search.name": "first"})
    client.set_registered_model_alias("pets", ALIAS, "1")
    cats, quoted, pets = models_in(database)
    assert (cats.name, cats.versions) == ("cats", ())
    assert (quoted.name, quoted.versions) == ("it's", ())
    assert [(one.number, one.aliases, one.search) for one in pets.versions] == [
        ("2", (), "first"),
        ("1", (ALIAS,), "first"),
    ]
    monkeypatch.setattr(model_registry, "MAX_MODELS", 2)
    assert [one.name for one in models_in(database)] == ["cats", "it's"]
    (found,) = models_in(database, "pets")
    assert (found.name, len(found.versions)) == ("pets", 2)
    assert models_in(database, "it's") == models_in(database, "none") == []

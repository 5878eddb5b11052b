"""The aliases that a version is given, and what is said if not all are."""

from types import SimpleNamespace

import pytest

from cluster.errors import NotReady
from search.tracking.model_registry import ALIAS, CHALLENGER, Registry

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
    given = registry(client).give("pets", "2", (CHALLENGER, ALIAS), over)
    assert client.aliases == {CHALLENGER: "2", ALIAS: champion}
    assert (ALIAS in given.aliases) == (champion == "2")


def test_if_an_alias_is_not_taken_it_is_told_which_were() -> None:
    with pytest.raises(NotReady, match=r"Version 2 of pets is registered, it is .*@challenger;"):
        registry(Client(refuses=ALIAS)).give("pets", "2", (CHALLENGER, ALIAS))

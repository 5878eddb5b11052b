"""A session of the pages, and a search that they show."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from starlette.applications import Starlette

from search.experiment import Experiment
from search.views.web.access import TOKEN, Access
from search.views.web.app import app_of
from search.views.web.pages.registry import PAGES
from search.views.web.site import Site
from tests.support.asgi import Reply, ask
from tests.support.played import OpenDriver, play


@dataclass
class Visitor:
    """Somebody who has opened the address with the token."""

    site: Site
    app: Starlette
    cookie: str = ""

    @classmethod
    def at(cls, place: Path) -> "Visitor":
        """Start a server of this place, and open its address."""
        site = Site(place, "sqlite:///none.db", Access("127.0.0.1"), PAGES)
        visitor = cls(site, app_of(site))
        let_in = ask(visitor.app, "GET", f"/?{TOKEN}={site.access.token}")
        visitor.cookie = let_in.headers["set-cookie"].partition(";")[0]
        return visitor

    def get(self, path: str) -> Reply:
        """Return a page."""
        return ask(self.app, "GET", path, headers={"cookie": self.cookie})


@pytest.fixture
def played(open_driver: OpenDriver, experiment: Experiment) -> Experiment:
    """The search `played`, nine trials of three, six or nine epochs, that has come to its end."""
    play(open_driver(experiment))
    return experiment


@pytest.fixture
def visitor(played: Experiment) -> Visitor:
    """A visitor of the place with the search `played`."""
    assert isinstance(played.storage, Path)
    return Visitor.at(played.storage)

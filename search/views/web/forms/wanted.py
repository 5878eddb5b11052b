"""A new search as a form describes it, and the command line that is the same.

Each value of the form is one word, `--option=value`, which the command's own parser has taken:
none can become an option by itself.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from search import data, run
from search.cli.keywords import words
from search.design.experiment import check_search_name
from search.run import data_source, named_data_sets
from search.spaces.find import names
from search.spaces.transfer import FAMILIES
from search.tracking.uri import default_uri
from search.values.wording import DEFAULT_STORAGE
from search.views.web.forms.folders import allowed, check_links
from search.views.web.forms.launch import command_line
from search.views.web.site import Site
from trainables.catalog.weights import cached
from trainables.errors import ConfigError, unknown

TEXTS = (
    "space",
    "name",
    "trials",
    "max_epochs",
    "budget",
    "metric",
    "algorithm",
    "scheduler",
    "concurrency",
    "device",
)
FLAGS = ("download", "skip_bad", "sealed")
"""The fields that are options of `search.run`: with a value, and without one."""
SIZE = "image_size"
FIELDS = ("data", SIZE, *TEXTS, *FLAGS)
FOLDER = "folder:"
MAX_VALUE = 4000


@dataclass(frozen=True)
class Wanted:
    """The fields of the form that are filled in, by name."""

    values: Mapping[str, str]

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "Wanted":
        """Return the fields of a form or of an address; what else is in it is left out.

        Raises:
            ConfigError: a value is too long.
        """
        found = {
            name: value.strip()
            for name in FIELDS
            if isinstance(value := given.get(name), str) and value.strip()
        }
        for name, value in found.items():
            if len(value) > MAX_VALUE:
                raise ConfigError(f"{name} is too long (limit {MAX_VALUE:,} characters).")
        return cls(found)

    @property
    def data(self) -> str:
        """The data set as `--data` names it; empty where none is chosen."""
        return self.values.get("data", "")

    @property
    def folder(self) -> str:
        """The folder of images; empty where the data set comes by name."""
        return self.data.removeprefix(FOLDER) if self.data.startswith(FOLDER) else ""

    @property
    def space(self) -> str:
        """The space, chosen or suggested.

        Photographs begin with trained weights where these are at hand.
        """
        has_weights = bool(self.folder) and not set(FAMILIES).isdisjoint(cached())
        return self.values.get("space") or ("transfer" if has_weights else "table3")

    @property
    def query(self) -> str:
        """The same as the end of an address."""
        return urlencode(self.values)

    def named(self) -> "Wanted":
        """Return the same with a name: the one that `search.run` would give it."""
        made = f"{self.space}-{data_source(self.data)}-{time.strftime('%Y%m%d-%H%M%S')}"
        return Wanted({**self.values, "name": self.values.get("name", made)})

    def check_data(self, site: Site) -> str:
        """Return the data set as the command line names it.

        Raises:
            ConfigError: there is none, or it may not be named here.
        """
        if not self.data:
            raise ConfigError("choose the images first.")
        if self.folder or self.data == FOLDER:
            path = allowed(self.folder, site.data_root)
            if site.data_root is not None:
                check_links(path, site.data_root)
            return f"{FOLDER}{path}"
        if (
            self.data not in named_data_sets()
        ):  # before `data_source`, which looks whether it is a folder
            raise ConfigError(unknown("data set", self.data[:80], sorted(named_data_sets())))
        return self.data

    def words(self, site: Site) -> list[str]:
        """Return the words of the command line.

        Raises:
            ConfigError: a value is refused.
        """
        if self.space not in names():
            raise ConfigError(unknown("space", self.space[:80], names()))
        if name := self.values.get("name"):
            check_search_name(name)
        options: dict[str, Any] = {"space": self.space, "data": self.check_data(site)}
        options |= {one: self.values[one] for one in TEXTS[1:] if one in self.values}
        options |= {one: True for one in FLAGS if one in self.values}
        if SIZE in self.values:
            options["set"] = {"data": {SIZE: self.values[SIZE]}}
        return words(options | place_options(site), run.parser())

    def look_words(self, site: Site) -> list[str]:
        """Return the words of the command line that looks at the data.

        Raises:
            ConfigError: they may not be named here.
        """
        options = {one: True for one in ("download", "skip_bad") if one in self.values}
        given = [f"--{one.replace('_', '-')}" for one in options]
        words = [*given, "--", self.check_data(site)]
        data.parser().parse_args(words)
        return words

    def command(self, site: Site) -> str:
        """Return the command line, to be copied.

        Raises:
            ConfigError: a value is refused.
        """
        return command_line("run", self.words(site))


def place_options(site: Site) -> dict[str, Any]:
    """Return where searches are kept and told of, as options, where these are not the usual."""
    found: dict[str, Any] = {}
    if site.place != DEFAULT_STORAGE:
        found["storage"] = str(site.place)
    if site.tracking != default_uri():
        found["tracking"] = site.tracking
    return found

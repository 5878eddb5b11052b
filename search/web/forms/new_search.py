"""The form of a new search, and the equivalent command line.

Each value of the form becomes an argument `--option=value`, which the parser of the command has
accepted. So no value can be mistaken for another option.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from search.cli.keywords import request_from
from search.design.experiment import check_search_name
from search.operations.data import DataRequest
from search.operations.run import data_source, default_name
from search.operations.run_request import RunRequest, named_data_sets
from search.spaces.find import default, names, task_of
from search.tracking.uri import default_uri
from search.values.option import words_of
from search.values.wording import DEFAULT_STORAGE
from search.web.forms.folders import allowed, check_links
from search.web.forms.launch import command_line
from search.web.site import Site
from trainables.catalog.datasets import DATASETS
from trainables.catalog.entries import TaskEntry
from trainables.config import DataConfig
from trainables.datasets.load import with_root
from trainables.errors import ConfigError, unknown
from trainables.tasks import TASKS, task_name

TEXTS = (
    "space",
    "name",
    "trials",
    "max_epochs",
    "budget",
    "metric",
    "evaluate",
    "algorithm",
    "scheduler",
    "concurrency",
    "device",
)
FLAGS = ("download", "skip_bad", "sealed")
"""The fields that are flags of `search.run`; those of `TEXTS` are options with a value."""
FOLDERS = ("weights", "unlabelled")
"""The fields that are options of `search.run` whose values are folders on the server's machine."""
FILES = ("groups",)
"""The fields that are options of `search.run` whose values are files on the server's machine."""
SIZE = "image_size"
FIELDS = ("data", SIZE, *TEXTS, *FOLDERS, *FILES, *FLAGS)
FOLDER = "folder:"
"""Prefix of the value of `--data` for a folder of images."""
MAX_VALUE = 4000
"""Maximum number of characters of a form field."""


@dataclass(frozen=True)
class NewSearchForm:
    """The form of a new search."""

    values: Mapping[str, str]
    """The values of the fields that are not empty, by the name of the field."""

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "NewSearchForm":
        """Read the fields of a form or of a URL query; empty and unknown ones are ignored.

        Raises:
            ConfigError: a value is too long.
        """
        values = {
            name: value.strip()
            for name in FIELDS
            if isinstance(value := fields.get(name), str) and value.strip()
        }
        for name, value in values.items():
            if len(value) > MAX_VALUE:
                raise ConfigError(
                    f"the value of '{name}' has {len(value):,} characters; at most {MAX_VALUE:,} "
                    "are allowed."
                )
        return cls(values)

    @property
    def data(self) -> str:
        """The value of `--data`; empty if no data is chosen."""
        return self.values.get("data", "")

    @property
    def folder(self) -> str:
        """The path of the folder of images; empty for a named data set."""
        return self.data.removeprefix(FOLDER) if self.data.startswith(FOLDER) else ""

    def task(self, site: Site) -> TaskEntry:
        """Return the task of the data.

        It is that of the chosen space if the data suits it. Otherwise that of a folder is
        recognised by its content. It is the default task if the data is not allowed on this server.
        """
        try:
            data = self.check_data(site)
        except ConfigError:
            return TASKS[task_name({})]
        return TASKS[self._task_of_space() or with_root(DataConfig(), data, "").task]

    def _task_of_space(self) -> str:
        """Return the task of the chosen space; empty for the default task, or if no data suits."""
        space = self.values.get("space", "")
        task = task_of(space) if space in names() else task_name({})
        suits = task in DATASETS[data_source(self.data)].tasks
        return task if suits and not TASKS[task].is_implied else ""

    def space(self, task: TaskEntry) -> str:
        """Return the chosen search space, or else the default for the data.

        Args:
            task: the task of the data.
        """
        return self.values.get("space") or default(task.name, self.data)

    @property
    def query(self) -> str:
        """The form's fields as a URL query string."""
        return urlencode(self.values)

    def with_name(self, site: Site) -> "NewSearchForm":
        """Copy the form, and fill in the name of the search as `search.run` would choose it.

        A name that is already filled in is kept.
        """
        space, source = self.space(self.task(site)), data_source(self.data)
        usual = default_name(space, source)
        return NewSearchForm({**self.values, "name": self.values.get("name", usual)})

    def check_data(self, site: Site) -> str:
        """Check the chosen data, and return the value of `--data`.

        Raises:
            ConfigError: no data is chosen, or the data is not allowed on this server.
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
        ):  # `data_source` would check if a folder of this name exists
            raise ConfigError(unknown("data set", self.data[:80], sorted(named_data_sets())))
        return self.data

    def request(self, site: Site) -> RunRequest:
        """Build the request of `search.run` from the form.

        Raises:
            ConfigError: a value is not allowed.
        """
        data = self.check_data(site)
        space = self.space(self.task(site))
        if space not in names():
            raise ConfigError(unknown("space", space[:80], names()))
        if name := self.values.get("name"):
            check_search_name(name)
        options: dict[str, Any] = {"space": space, "data": data}
        options |= {field: self.values[field] for field in TEXTS[1:] if field in self.values}
        options |= {field: True for field in FLAGS if field in self.values}
        options |= {
            field: str(allowed(self.values[field], site.data_root, is_file=field in FILES))
            for field in (*FOLDERS, *FILES)
            if field in self.values
        }
        if SIZE in self.values:
            options["set"] = {"data": {SIZE: self.values[SIZE]}}
        return request_from(RunRequest, options | place_options(site))

    def look_words(self, site: Site) -> list[str]:
        """Build the arguments of the command that inspects the data (`forms.look`)."""
        options: dict[str, Any] = {"data": self.check_data(site)}
        options |= {field: True for field in ("download", "skip_bad") if field in self.values}
        if task := self._task_of_space():
            options["task"] = task
        return words_of(request_from(DataRequest, options))

    def command(self, site: Site) -> str:
        """Format the equivalent command line, quoted for a shell."""
        return command_line("run", words_of(self.request(site)))


def place_options(site: Site) -> dict[str, Any]:
    """Return the site's options `storage` and `tracking`, without those that have the default."""
    options: dict[str, Any] = {}
    if site.place != DEFAULT_STORAGE:
        options["storage"] = str(site.place)
    if site.tracking != default_uri():
        options["tracking"] = site.tracking
    return options

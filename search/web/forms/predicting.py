"""Predictions on a folder of images: the command that a form starts, and its result."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

from search.cli.keywords import request_from
from search.journal.result import moment
from search.operations.predict import PredictRequest, picture_path
from search.tracking.model_registry import models_in
from search.values.option import words_of
from search.views.predictions import NOT_READ
from search.web.forms.folders import allowed, check_links
from search.web.forms.launch import MODEL, PICTURES, Launched, Launcher
from search.web.forms.new_search import place_options
from search.web.site import Site
from trainables.errors import ConfigError
from trainables.export.model import class_of_task

VERSION = re.compile("[0-9]{1,9}")
SHOWN_ENDINGS = ("_overlay.png", "_boxes.png", "_x2.png", "_x3.png", "_x4.png")
"""The endings of the files that show a prediction: a mask or boxes over its image, or an
enlarged image."""


def model_address(name: str, number: str) -> str:
    """Build the URI of a version of a registered model, such as `models:/flowers/3`.

    Raises:
        ConfigError: the version is not a number.
    """
    if not VERSION.fullmatch(number):
        raise ConfigError(
            f"the version must be a whole number of at most 9 digits, such as 3 (got "
            f"'{number[:40]}')."
        )
    return f"{MODEL}{name}/{number}"


def form_address(name: str, **query: str) -> str:
    """Build the URL path of the page on which a folder is chosen for a model, with a query."""
    return f"/models/{quote(name, safe='')}/folder?{urlencode(query)}"


def started_by(name: str, number: str, folder: str, site: Site, launcher: Launcher) -> Launched:
    """Start a command that predicts the images of a folder with a model.

    Args:
        name: the name of the model.
        number: the number of its version.
        folder: the folder.
        site: the objects that all pages share.
        launcher: starts the command.

    Raises:
        ConfigError: the model is still predicting a folder, or a value is not allowed.
    """
    if at_work := [
        prediction for prediction in earlier(launcher, name) if prediction.launched.is_running
    ]:
        raise ConfigError(
            f"the model is already predicting the images in '{at_work[0].folder}'. Wait until "
            "it has finished, or stop it."
        )
    words = predict_words(name, number, folder, site)
    back = form_address(name, version=number, folder=folder)
    option = "--out" if has_pictures(name, number, site) else ""
    return launcher.start("predict", f"{MODEL}{name}", words, back, option)


def has_pictures(name: str, number: str, site: Site) -> bool:
    """True if the predictions of a version of a registered model are pictures."""
    versions = (version for model in models_in(site.tracking, name) for version in model.versions)
    return any(
        class_of_task(version.task).has_files for version in versions if version.number == number
    )


def predict_words(name: str, number: str, folder: str, site: Site) -> list[str]:
    """Build the arguments of `search.predict`, without the option for the output file."""
    address = model_address(name, number)
    path = allowed(folder, site.data_root)
    if site.data_root is not None:
        check_links(path, site.data_root)
    options = {"name": address, "paths": [str(path)], **place_options(site)}
    return words_of(request_from(PredictRequest, options))


@dataclass(frozen=True)
class Prediction:
    """Predictions for the images of a folder, made by a command that a page has started."""

    launched: Launched
    """The command that makes the predictions."""

    @property
    def model(self) -> str:
        """The name of the model."""
        return self.launched.name

    @property
    def version(self) -> str:
        """The number of the model's version."""
        prefix = f"{self.launched.subject}/"
        addresses = [word for word in self.launched.words if word.startswith(prefix)]
        return addresses[0].removeprefix(prefix)

    @property
    def folder(self) -> str:
        """The folder of the images."""
        return next(word for word in reversed(self.launched.words) if not word.startswith("--"))

    def overlay(self, file: str) -> Path | None:
        """Return the picture of an image's prediction (`SHOWN_ENDINGS`); None if there is none.

        `file` is the path of the image; empty if it is not known.
        """
        if not file:
            return None
        pictures = self.launched.folder / PICTURES
        paths = (picture_path(pictures, file, [self.folder], end) for end in SHOWN_ENDINGS)
        return next((path for path in paths if path.is_file()), None)

    @property
    def has_overlays(self) -> bool:
        """True if there are pictures of the predictions."""
        return (self.launched.folder / PICTURES).is_dir()

    @property
    def began(self) -> str:
        """The time at which the command was started, as text."""
        return moment(self.launched.began_ms)

    @property
    def file_name(self) -> str:
        """The name of the downloaded table, which is valid on every operating system."""
        safe = re.sub(r"[^A-Za-z0-9._-]+", "_", self.model).strip("._-")[:80]
        return f"{safe or 'model'}-{self.version}.csv"

    @property
    def unread(self) -> list[str]:
        """The command's messages about files that it could not read, as far as they are logged."""
        lines = (line for line in self.launched.printed_lines if line.startswith(NOT_READ))
        return [line.removeprefix(NOT_READ) for line in lines]

    @property
    def notes(self) -> list[str]:
        """The command's notes, such as the number of files that are not images."""
        lines = self.launched.printed_lines
        return [line.removeprefix("note: ") for line in lines if line.startswith("note: ")]


def earlier(launcher: Launcher, name: str) -> list[Prediction]:
    """List the predictions for folders that pages have started for a model, the latest first."""
    return [Prediction(launched) for launched in launcher.of(f"{MODEL}{name}")]

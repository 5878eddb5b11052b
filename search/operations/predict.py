"""A model's predictions for images: files, folders, or paths on stdin."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.journal.guessing import answer_against
from search.journal.result import SearchResult
from search.journal.store import Storage, home, own_path
from search.operations.model_options import ModelLocation
from search.operations.options import storage_option
from search.operations.talk import SILENT, Talk
from search.process.versions import check_versions
from search.trained.source import ModelSource, load_model
from search.values.option import group, option, positional
from search.values.statistics import share_interval
from search.views.text.sentences import against_text
from trainables.datasets.images import SUFFIXES
from trainables.datasets.names import is_hidden
from trainables.errors import ConfigError, did_you_mean, printable

if TYPE_CHECKING:
    from trainables.export.model import FileAnswer, Model

STDIN = "-"
MAX_BESIDE = 2000
"""The maximum number of files beside a missing one that are read to suggest one of them."""
TRUE_CLASS = "true_class"
"""The column with the true class of an image, which is the name of its folder."""


@dataclass(frozen=True, kw_only=True)
class PredictRequest:
    """A model, and the images to predict."""

    name: str = positional("the search's name", metavar="NAME")
    storage: Storage = storage_option()
    paths: tuple[str, ...] = positional(
        "an image, a folder, or - to read paths from stdin", metavar="PATH", nargs="+"
    )
    location: ModelLocation = group(
        ModelLocation, mlflow="for a promoted model: MLflow's", search="the search's"
    )
    out: Path | None = option(
        "write the files of a model's answers, such as masks or images with boxes, to this folder",
        metavar="DIR",
        parse=own_path,
        before="trial",
    )


@dataclass
class Files:
    """The image files that paths name; folders are searched lazily during the iteration."""

    paths: Sequence[str]
    skipped: int = 0
    """The number of files in folders that were skipped so far, because of their suffix."""
    first_skipped: str = ""
    """The path of the first skipped file; empty if there is none."""
    unread: list[OSError] = field(default_factory=list)
    """The errors of the folders that could not be read so far."""

    def __iter__(self) -> Iterator[str]:
        """Yield each file, in the order of the paths; files in a folder are sorted by name."""
        for path in self.paths:
            for entry in _lines(sys.stdin) if path == STDIN else [path]:
                yield from self._below(entry) if Path(entry).is_dir() else [entry]

    def _below(self, folder: str) -> Iterator[str]:
        visited = {os.path.realpath(folder)}  # a symlink may lead to a parent folder
        for parent, folders, names in os.walk(folder, onerror=self.unread.append, followlinks=True):
            folders[:] = sorted(
                name
                for name in folders
                if not is_hidden(name) and _is_new(os.path.realpath(Path(parent, name)), visited)
            )
            for path in (Path(parent, name) for name in sorted(names) if not is_hidden(name)):
                if path.suffix.lower() in SUFFIXES:
                    yield str(path)
                else:
                    self.skipped += 1
                    self.first_skipped = self.first_skipped or str(path)


def _lines(stream: Iterable[str]) -> Iterator[str]:
    return (line.rstrip("\n") for line in stream if line.strip())


def _is_new(path: str, visited: set[str]) -> bool:
    """True if a path has not been visited. Side effect: adds it to `visited`."""
    is_new = path not in visited
    visited.add(path)
    return is_new


@dataclass
class FolderAccuracy:
    """The model's accuracy on folders whose sub-folders are named after its classes."""

    roots: Sequence[Path]
    """The folders whose sub-folders are named after classes; if empty, no true class is known."""
    images: dict[str, int] = field(default_factory=dict)
    """The number of images so far, by true class."""
    right: dict[str, int] = field(default_factory=dict)
    """The number of correct predictions so far, by true class."""
    answers: int = 0
    """The number of images of known class so far from which the model did not abstain."""
    right_answers: int = 0
    """The number of correct predictions among these."""

    @classmethod
    def over(cls, paths: Sequence[str], classes: Sequence[str]) -> "FolderAccuracy":
        """Create an instance for those paths whose sub-folders are all named after classes."""
        return cls([Path(path) for path in paths if _has_class_folders(Path(path), set(classes))])

    def true_class(self, file: str) -> str | None:
        """Return the true class of a file: the name of the sub-folder of a root that contains it.

        None if the file is not in a sub-folder of a root.
        """
        for root in self.roots:
            if Path(file).is_relative_to(root):
                first, *rest = Path(file).relative_to(root).parts
                return first if rest else None
        return None

    def take(self, answer: "FileAnswer") -> "FileAnswer":
        """Count a prediction, and return it, with the column `TRUE_CLASS` if there are `roots`."""
        if not self.roots or answer.error:
            return answer
        true = self.true_class(answer.file)
        if true is not None:
            is_right = answer.values["class"] == true
            self.images[true] = self.images.get(true, 0) + 1
            self.right[true] = self.right.get(true, 0) + is_right
            if not answer.values.get("abstained"):
                self.answers += 1
                self.right_answers += is_right
        return replace(answer, values={**answer.values, TRUE_CLASS: true})

    @property
    def bounds(self) -> tuple[float, float]:
        """The 95 % confidence interval of the accuracy (Clopper and Pearson 1934).

        The images are assumed to be independent, and there must be at least one.
        """
        images = sum(self.images.values())
        return share_interval(sum(self.right.values()) / images, images)

    @property
    def answer_bounds(self) -> tuple[float, float]:
        """The same for the images from which the model did not abstain, of which there are any."""
        return share_interval(self.right_answers / self.answers, self.answers)


def _has_class_folders(folder: Path, classes: set[str]) -> bool:
    """True if a folder has sub-folders, each named after a class; hidden ones are ignored."""
    try:
        names = {
            child.name for child in folder.iterdir() if child.is_dir() and not is_hidden(child.name)
        }
    except OSError:  # not a folder, or an unreadable one, which `Files` reports
        return False
    return bool(names) and names <= classes


@dataclass
class Predictions:
    """A model's predictions for files, in order.

    Iterate over it once; after that, the counts are complete.
    """

    model: "Model"
    files: Files
    accuracy: FolderAccuracy
    out: Path | None = None
    """The folder for the files of the answers (`Answer.files`); None to write none."""
    images: int = 0
    """The number of predicted images so far."""
    unread_files: int = 0
    """The number of files so far that could not be read."""
    abstained: dict[str, int] = field(default_factory=dict)
    """The number of images so far from which the model abstained, by reason."""
    _records: dict[str, Any] = field(default_factory=dict, repr=False)
    """The values of each image for files about all images (`Model.joint_files`)."""
    _written: dict[Path, str] = field(default_factory=dict, repr=False)
    """The image of each file that was written."""

    def __iter__(self) -> "Iterator[FileAnswer]":
        """Predict each file (see `answer_files`), and count it."""
        from trainables.export.model import answer_files

        try:
            for answer in answer_files(self.model, self.files):
                if answer.error:
                    self.unread_files += 1
                else:
                    self.images += 1
                    if answer.values.get("abstained"):
                        reason = answer.values["reason"]
                        self.abstained[reason] = self.abstained.get(reason, 0) + 1
                    self._write_files(answer)
                yield self.accuracy.take(answer)
        finally:
            self._write_joint_files()  # also those of an interrupted iteration

    def _write_files(self, answer: "FileAnswer") -> None:
        """Write the files of an answer, if there is a folder for them.

        Raises:
            ConfigError: a file of another image has the same path.
        """
        if self.out is None:
            return
        if answer.record is not None:
            self._records[self._inner_path(answer.file)] = answer.record
        for ending, content in answer.files.items():
            target = picture_path(self.out, answer.file, self.files.paths, ending)
            if (first := self._written.setdefault(target, answer.file)) != answer.file:
                raise ConfigError(_same_target(first, answer.file, target))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)

    def _inner_path(self, image: str) -> str:
        """Return the path of an image below the folder that was predicted."""
        return inner_path(image, self.files.paths).as_posix()

    def _write_joint_files(self) -> None:
        """Write the files about all images, if there is a folder for them and any image."""
        if self.out is None or not self._records:
            return
        for name, content in self.model.joint_files(self._records).items():
            self.out.mkdir(parents=True, exist_ok=True)
            (self.out / name).write_bytes(content)

    @property
    def unread(self) -> int:
        """The number of files and folders so far that could not be read."""
        return self.unread_files + len(self.files.unread)

    def check_any_image(self) -> None:
        """Check, after the iteration, that at least one image was read.

        Raises:
            ConfigError: no image could be read.
        """
        if not self.images:
            raise ConfigError(no_image_in(self.files.paths))


def picture_path(out: Path, image: str, paths: Sequence[str], ending: str) -> Path:
    """Return the path of a file of an answer, below `out` as the image is below its folder.

    Args:
        out: the folder for the files of all answers.
        image: the path of the image.
        paths: the paths of images and folders that were predicted.
        ending: what replaces the suffix of the image, such as `_mask.png`.
    """
    inner = inner_path(image, paths)
    return out / inner.with_name(inner.stem + ending)


def inner_path(image: str, paths: Sequence[str]) -> Path:
    """Return the path of an image below the folder of these that contains it, else its name."""
    file = Path(image)
    roots = [Path(path) for path in paths if file.is_relative_to(path)]
    return file.relative_to(roots[0]) if roots and roots[0] != file else Path(file.name)


def check_any_path(paths: Sequence[str]) -> None:
    """Check that at least one path exists, before a model is loaded, which may take a minute.

    Raises:
        ConfigError: none exists.
    """
    if not any(path == STDIN or os.path.lexists(path) for path in paths):
        beside = islice(Path(paths[0]).parent.glob("*"), MAX_BESIDE)
        suggestion = did_you_mean(paths[0], map(str, beside))
        raise ConfigError(
            f"there is no file or folder '{printable(paths[0])}'.{suggestion} Pass image files or "
            "folders that contain images."
        )


def no_image_in(paths: Sequence[str]) -> str:
    """Return the sentence on paths without an image."""
    listed = ", ".join(map(printable, paths))[:200]
    return (
        f"no readable image was found in {listed}. Pass image files or folders that contain images."
    )


def _check_out(out: Path, paths: Sequence[str]) -> None:
    """Check, before a model is loaded, that its files can be written to a folder of their own.

    Paths from stdin are not checked here, but when their files are written.

    Raises:
        ConfigError: the folder is one of those to be predicted or in one of them, or the files of
            two images would have the same path.
    """
    folders = [Path(path) for path in paths if path != STDIN and Path(path).is_dir()]
    for folder in folders:
        if out.resolve().is_relative_to(folder.resolve()):
            raise ConfigError(
                f"--out '{out}' is in '{folder}', whose images are predicted: the next command "
                "would predict what this one writes. Choose another --out."
            )
    images: dict[Path, str] = {}
    for image in Files([path for path in paths if path != STDIN]):
        target = picture_path(out, image, paths, "")
        if (first := images.setdefault(target, image)) != image:
            raise ConfigError(_same_target(first, image, target))


def _same_target(first: str, second: str, target: Path) -> str:
    """Return the sentence on two images whose answers would be written to the same path."""
    return (
        f"the predictions for '{first}' and '{second}' would be written to the same file, "
        f"'{target}'. Predict these images in two calls, each with its own --out."
    )


def _doubt_about(source: ModelSource) -> str:
    """Return the sentence on a search's answer that is no better than guessing; else empty."""
    result = SearchResult.read(home(source.storage, str(source)).opened())
    comparison, answer = answer_against(result), result.chosen
    if comparison is None or answer is None or comparison.is_above:
        return ""
    return against_text(comparison, answer.trial)


def predict(request: PredictRequest, talk: Talk = SILENT) -> Predictions:
    """Load a model, and return its predictions, which are computed while they are iterated over.

    Raises:
        NoSuchSearch: there is no such search.
        ConfigError: there is no such trial, model or folder.
        LeaseHeld, Refused: the search still runs or was cut off, its images have changed, or the
            checkpoint is damaged.
        NotReady, Unavailable: MLflow fails, or the data are missing.
    """
    check_versions()
    check_any_path(request.paths)
    if request.out is not None:
        _check_out(request.out, request.paths)
    source = request.location.source(request.name, request.storage)
    if source.is_search:
        # The model is exported and compared with its checkpoint, which takes seconds.
        talk.note(f"preparing the model of the search '{source}'")
    model = load_model(source)
    if source.is_search and source.trial is None and (doubt := _doubt_about(source)):
        talk.note(f"warning: {doubt}")
    if request.out is not None and not model.has_files:
        raise ConfigError(
            f"--out cannot be used for {model.task.title}, whose predictions are values, not "
            "pictures. Use --csv FILE."
        )
    if request.out is None and model.has_files:
        talk.note(f"note: only values are shown; --out FOLDER writes the {model.task.output} too")
    accuracy = FolderAccuracy.over(request.paths, model.image_classes)
    return Predictions(model, Files(request.paths), accuracy, request.out)

"""Explains predictions of the model of a search: maps of images, and checks of these maps."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from search.journal.result import SearchResult, TrialResult
from search.journal.store import EXPLANATIONS, Home, own_path
from search.operations.options import SearchRequest
from search.operations.predict import Files, FolderAccuracy, check_any_path, no_image_in
from search.operations.talk import SILENT, Talk
from search.process.versions import check_versions
from search.trained.answer import find_answer
from search.trained.export import config_of, dataset_of, local_checkpoint
from search.trained.source import ModelSource, load_model
from search.values.explanation import ExplainedImage, ExplanationReport, SimilarImage
from search.values.option import option, positional
from search.views.text.labels import model_text
from trainables.catalog.explanations import METHODS, choose_method
from trainables.errors import ConfigError, printable
from trainables.progress import step

if TYPE_CHECKING:
    from trainables.config import TrialConfig
    from trainables.datasets.arrays import Dataset, Part
    from trainables.explanations.explain import Explanation

MOST_IMAGES = 200
"""The largest number of images of a call: a map with its checks takes up to seconds an image."""
PAGE = "index.html"


@dataclass(frozen=True, kw_only=True)
class ExplainRequest(SearchRequest):
    """A search whose model's predictions are explained."""

    images: tuple[str, ...] = positional(
        f"an image, or a folder of images, at most {MOST_IMAGES} in all (default: validation "
        "images, the most confident mistakes and a few correct predictions)",
        metavar="IMAGE",
        nargs="*",
    )
    method: str | None = option(
        "how maps are computed: gradcam, for networks with a convolutional feature map; "
        "integrated_gradients, for networks; or occlusion, for every model (default: the most "
        "suitable for the model)",
        metavar="METHOD",
        choices=METHODS,
    )
    trial: str | None = option(
        "another trial of the search than the chosen or best one", metavar="TRIAL"
    )
    data_root: Path | None = option(
        "where the search's data is now (default: as for the search)",
        metavar="DIR",
        parse=own_path,
    )
    out: Path | None = option(
        "the folder for the page and its pictures, which is created (default: NAME-explained)",
        metavar="FOLDER",
        parse=own_path,
    )


@dataclass(frozen=True)
class _Examples:
    """Images to explain, in the size of the training images."""

    names: list[str]
    pixels: NDArray[np.uint8]
    """uint8 (images, height, width, channels)."""
    true_classes: list[str | None]
    rows: NDArray[np.intp] | None = None
    """Their rows in the validation set; None for files."""
    unread: tuple[str, ...] = ()


def explain(request: ExplainRequest, talk: Talk = SILENT) -> ExplanationReport:
    """Explain predictions of a search's model, and write a page about them.

    Raises:
        NoSuchSearch: there is no such search.
        ConfigError: the model's predictions cannot be explained by this method, or a path cannot be
            used.
        LeaseHeld, Refused: the search still runs or was cut off, its images have changed, or the
            checkpoint is damaged.
        Unavailable: the data are missing.
    """
    home = request.home()
    result = SearchResult.read(home.opened())
    trial = find_answer(result, home, request.storage, request.trial)
    config = config_of(result, trial, request.data_root)
    models = [member.model.name for member in config.members or (config,)]
    method = choose_method(config.data.task, models, request.method)
    folder = request.out or Path(f"{result.name}-explained")
    _check_folder(folder)
    files = _list_files(request.images)
    check_versions()
    talk.note(f"explaining {trial.trial} ({model_text(trial)}) by {METHODS[method].title}")
    with step("loading the images"):
        dataset = dataset_of(result, config)
    model = _TrialModel(result, trial, config, dataset, local_checkpoint(home, trial))
    report = model.explain(method, _read_files(request, files) if files else None, folder)
    if not files and trial is result.chosen:
        _add_to_report(home, result, report, talk)
    return report


def _add_to_report(
    home: Home, result: SearchResult, explanations: ExplanationReport, talk: Talk
) -> None:
    """Store explained predictions with the search, and show them in its report."""
    from search.views.page import explanation_panel, page  # these import matplotlib

    try:
        home.write(EXPLANATIONS, explanation_panel.encode(explanations))
        page.redraw(home, result)
    except OSError as error:  # such as the search of another user
        talk.note(f"warning: the maps could not be added to the report of the search: {error}")
    else:
        talk.note("the report of the search shows some of these maps too")


def _check_folder(folder: Path) -> None:
    """Check that pages can be written to a folder, which may not exist yet.

    Raises:
        ConfigError: the path is a file, or its parent is not a folder.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--out '{folder}' is a file. Pass the path of a folder.")
    if not folder.parent.is_dir():
        raise ConfigError(
            f"--out '{folder}' is in '{folder.parent}', which is not a folder. Create it first."
        )


def _list_files(paths: tuple[str, ...]) -> list[str]:
    """List the image files that paths name; empty for no paths.

    Raises:
        ConfigError: a path does not exist, there is no image, or there are too many.
    """
    if not paths:
        return []
    check_any_path(paths)
    files = list(islice(Files(paths), MOST_IMAGES + 1))
    if not files:
        raise ConfigError(no_image_in(paths))
    if len(files) > MOST_IMAGES:
        listed = ", ".join(map(printable, paths))[:200]
        raise ConfigError(
            f"there are more than {MOST_IMAGES} images in {listed}. Pass at most {MOST_IMAGES}."
        )
    return files


def _read_files(request: ExplainRequest, files: list[str]) -> _Examples:
    """Decode files exactly as `search.predict` does; unreadable ones are listed in the result.

    Raises:
        ConfigError: no file can be read; and as in `ModelSource.fetch`.
    """
    source = ModelSource(
        name=request.name,
        storage=request.storage,
        trial=request.trial,
        data_root=request.data_root,
    )
    model = load_model(source)
    accuracy = FolderAccuracy.over(request.images, model.image_classes)
    names, pixels, unread = [], [], []
    for file in files:
        try:
            pixels.append(model.pixels(file))
            names.append(file)
        except (ConfigError, OSError) as error:
            unread.append(str(error))
    if not names:
        raise ConfigError(f"no image could be read. The first error: {unread[0]}")
    true_classes = [accuracy.true_class(file) for file in names]
    return _Examples(names, np.stack(pixels), true_classes, unread=tuple(unread))


@dataclass(frozen=True)
class _TrialModel:
    """The model of a trial, with the data that it was trained on."""

    result: SearchResult
    trial: TrialResult
    config: "TrialConfig"
    dataset: "Dataset"
    checkpoint: Path

    def explain(self, method: str, files: _Examples | None, folder: Path) -> ExplanationReport:
        """Explain images, and write the page and its pictures to a folder.

        Args:
            method: the name of the method.
            files: the images to explain; None for validation images.
            folder: receives the page; it is created if necessary.
        """
        # Imported late, because these modules import torch, scikit-learn and Jinja.
        from search.views.page.explanations import write
        from trainables.explanations.examples import map_features
        from trainables.explanations.explain import explain as explain_images
        from trainables.explanations.explain import load_explainable

        with load_explainable(self.config, self.dataset, self.checkpoint) as model:
            with step("predicting the validation images"):
                chances = model.predict(self.dataset.val.images)
            examples = files or self._choose_examples(chances)
            explanations = explain_images(model, method, examples.pixels)
        feature_map = map_features(self.config, self.dataset, self.checkpoint, chances)
        report = ExplanationReport(
            search=self.result.name,
            trial=self.trial.trial,
            model=model_text(self.trial),
            method=method,
            classes=self.dataset.classes,
            images=tuple(self._with_pictures(examples, explanations)),
            unread=examples.unread,
            page=folder / PAGE,
            feature_map=feature_map,
        )
        write(report, folder)
        return report

    def _choose_examples(self, chances: NDArray[np.float64]) -> _Examples:
        """Choose mistakes and correct predictions among the validation images.

        With folds, images were predicted by networks that were trained on them, which are the only
        ones there are for new images; few are mistakes then.
        """
        from trainables.explanations.examples import choose_rows

        rows = choose_rows(chances, self.dataset.val.targets)
        chosen = self.dataset.val.take(rows)
        names = [_name_of(self.dataset.val, "validation", row) for row in rows]
        true_classes = [self.dataset.classes[number] for number in chosen.targets]
        return _Examples(names, np.asarray(chosen.images), list(true_classes), rows)

    def _with_pictures(
        self, examples: _Examples, explanations: "list[Explanation]"
    ) -> Iterator[ExplainedImage]:
        """Yield the explained images; mistakes of the validation set with similar images."""
        from trainables.explanations.pictures import draw_image, draw_map

        images = [
            ExplainedImage(
                name=name,
                class_name=self.dataset.classes[explanation.number],
                true_class=true_class,
                explanation=explanation,
                picture=draw_image(pixels),
                overlay=draw_map(pixels, explanation.values),
            )
            for name, true_class, pixels, explanation in zip(
                examples.names, examples.true_classes, examples.pixels, explanations, strict=True
            )
        ]
        if examples.rows is None:
            yield from images
            return
        mistakes = [number for number, image in enumerate(images) if image.is_mistake]
        similar = dict(zip(mistakes, self._find_similar(examples.rows[mistakes]), strict=True))
        for number, image in enumerate(images):
            yield replace(image, similar=similar.get(number, ()))

    def _find_similar(self, rows: NDArray[np.intp]) -> list[tuple[SimilarImage, ...]]:
        """Find the training images that are most similar to each of these validation images."""
        from trainables.explanations.examples import find_neighbours
        from trainables.explanations.pictures import draw_image

        train = self.dataset.train
        return [
            tuple(
                SimilarImage(
                    name=_name_of(train, "training", neighbour.row),
                    class_name=self.dataset.classes[neighbour.number],
                    similarity=neighbour.similarity,
                    picture=draw_image(train.take(np.array([neighbour.row])).images[0]),
                )
                for neighbour in neighbours
            )
            for neighbours in find_neighbours(self.config, self.dataset, self.checkpoint, rows)
        ]


def _name_of(part: "Part", title: str, row: int) -> str:
    """Return the file of an image of a part, or its row if the data set has no files."""
    return f"{title} image {row}" if part.names is None else part.names[row]

"""Explained predictions of a search's model: the images, their maps, and the verdicts on these."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainables.values import Json

if TYPE_CHECKING:
    from trainables.explanations.examples import FeatureMap
    from trainables.explanations.explain import Explanation


@dataclass(frozen=True)
class SimilarImage:
    """A training image that is similar to a mistake in the model's feature space."""

    name: str
    class_name: str
    similarity: float
    """The cosine similarity of the features, at most 1."""
    picture: bytes
    """The image as PNG."""

    def to_json(self) -> Json:
        """Convert the facts to JSON-compatible values."""
        return {"image": self.name, "class": self.class_name, "similarity": self.similarity}


@dataclass(frozen=True)
class ExplainedImage:
    """An image, the prediction, and its explanation."""

    name: str
    """The file, or the row in the validation set."""
    class_name: str
    """The predicted class, which is explained."""
    true_class: str | None
    """The true class; None if it is not known."""
    explanation: "Explanation"
    picture: bytes
    """The image as PNG."""
    overlay: bytes
    """The map over the image as PNG."""
    similar: tuple[SimilarImage, ...] = ()
    """For a mistake on a validation image: similar training images, the most similar first."""

    @property
    def is_mistake(self) -> bool:
        """True if the true class is known, and another one was predicted."""
        return self.true_class is not None and self.true_class != self.class_name

    def to_json(self) -> Json:
        """Convert the explanation to JSON-compatible values, without pictures."""
        return {
            "image": self.name,
            "class": self.class_name,
            "true_class": self.true_class,
            **self.explanation.to_json(),
            "similar": [image.to_json() for image in self.similar],
        }


@dataclass(frozen=True, kw_only=True)
class ExplanationReport:
    """Explained images of a model, and the page about them."""

    search: str
    trial: str
    model: str
    """The model's name in the catalog."""
    method: str
    classes: tuple[str, ...]
    images: tuple[ExplainedImage, ...]
    unread: tuple[str, ...]
    """Lines about the files that could not be read."""
    page: Path
    feature_map: "FeatureMap | None"

    @property
    def faithful(self) -> int:
        """The number of maps that are faithful."""
        return sum(image.explanation.is_faithful for image in self.images)

    @property
    def passed(self) -> int | None:
        """The number of maps that pass the check of the weights; None for a model without any."""
        verdicts = [image.explanation.depends_on_weights for image in self.images]
        return None if None in verdicts else sum(verdict is True for verdict in verdicts)

    def to_json(self) -> Json:
        """Convert the report to JSON-compatible values, without pictures."""
        return {
            "name": self.search,
            "trial_id": self.trial,
            "model": self.model,
            "method": self.method,
            "faithful": self.faithful,
            "passed": self.passed,
            "images": [image.to_json() for image in self.images],
            "unread": list(self.unread),
            "page": str(self.page),
        }

"""Linear classifiers on the features of pretrained networks."""

from search.space import Choice, Float, SearchSpace
from trainables.catalog.models import PROBED

FOR = (
    "Photographs, a first good answer in a minute: linear classifiers on the features of networks "
    "that were pretrained on other photographs."
)


def space() -> SearchSpace:
    """Return the space of networks, sizes of images, and strengths of regularisation.

    The features of a network and size are computed once, and shared by its trials. Networks without
    available weights are left out.
    """
    return SearchSpace(
        {
            "model.name": Choice(*(f"probe_{name}" for name in PROBED)),
            "model.input_size": Choice(96, 128, 160, 224),
            "model.c": Float(1e-5, 1.0, log=True),
        },
        base={"model.pretrained": True},
        trials=16,
        first=[
            {"model.name": f"probe_{name}", "model.input_size": 128, "model.c": 1e-3}
            for name in PROBED
        ],
    )

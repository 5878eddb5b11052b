"""Linear classifiers on the features of pretrained networks."""

from search.space import Choice, Float, SearchSpace

FOR = "Photographs, a first good answer: linear classifiers on the features of pretrained networks."

PROBES = ("probe_mobilenet_v2", "probe_squeezenet1_0", "probe_resnet18", "probe_efficientnet_b0")
"""Probes of networks that are small enough for a CPU, roughly from the most promising on."""


def space() -> SearchSpace:
    """Return the space of networks, sizes of images, and strengths of regularisation.

    The features of a network and size are computed once, and shared by its trials. Networks without
    available weights are left out.
    """
    return SearchSpace(
        {
            "model.name": Choice(*PROBES),
            "model.input_size": Choice(96, 128, 160, 224),
            "model.c": Float(1e-5, 1.0, log=True),
        },
        base={"model.pretrained": True},
        trials=16,
        first=[{"model.name": name, "model.input_size": 128, "model.c": 1e-3} for name in PROBES],
    )

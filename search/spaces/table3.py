"""Table III of the paper that the README cites: five hyperparameters with three values each.

They make 243 configurations. The paper's best row is learning rate 0.001, batch size 64, 20 epochs,
10 layers and filter size 3. "Layers" are layers with weights: n layers are n - 2 convolutions and
two dense layers.
"""

from search.space import Choice, SearchSpace

FOR = (
    "Small or grey images, or thousands of images: networks that are trained from scratch, as in "
    "the paper's Table III."
)

DEFAULT_FOR = ("digits",)

PAPERS_BEST = {
    "optimizer.lr": 0.001,
    "batch_size": 64,
    "epochs": 20,
    "model.layers": 10,
    "model.filter_size": 3,
}


def space() -> SearchSpace:
    """Return the space of five hyperparameters of `deep_cnn`, which is trained with Adam.

    They are learning rate, batch size, epochs, number of layers and filter size.
    """
    return SearchSpace(
        {
            "optimizer.lr": Choice(0.001, 0.01, 0.1),
            "batch_size": Choice(32, 64, 128),
            "epochs": Choice(10, 20, 30),
            "model.layers": Choice(5, 10, 15),
            "model.filter_size": Choice(3, 5, 7),
        },
        base={"model.name": "deep_cnn"},
        trials=60,
        reference=PAPERS_BEST,
        reference_title="the paper's",
    )

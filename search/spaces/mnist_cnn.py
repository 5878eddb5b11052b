"""The custom network for MNIST of the paper that the README cites, over continuous ranges."""

from search.space import Choice, Float, Int, SearchSpace

FOR = "Small grey images, such as digits: one small network, finely tuned."


def space() -> SearchSpace:
    """Return the space of optimizer, optimizer settings, dropout, width and batch size.

    The optimizer's settings are learning rate, momentum (only for SGD) and weight decay. All trials
    have 10 epochs.
    """
    return SearchSpace(
        {
            "optimizer.name": Choice("adam", "sgd"),
            "optimizer.lr": Float(1e-4, 1e-1, log=True),
            "optimizer.momentum": Float(0.5, 0.99, when={"optimizer.name": "sgd"}),
            "optimizer.weight_decay": Float(1e-6, 1e-2, log=True),
            "model.dropout": Float(0.0, 0.7),
            "model.width": Int(8, 64, log=True),
            "batch_size": Int(32, 256, log=True),
        },
        base={"model.name": "mnist_cnn", "epochs": 10},
        trials=30,
    )

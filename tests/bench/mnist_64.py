"""64 trainings of the custom MNIST net on 10,000 images, some of which hardly learn.

The bench of real trainings searches them.
"""

from search.space import Choice, SearchSpace

space = SearchSpace(
    {
        "optimizer.name": Choice("adam", "sgd"),
        "optimizer.lr": Choice(0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3),
        "optimizer.momentum": Choice(0.9, when={"optimizer.name": "sgd"}),
        "model.dropout": Choice(0.0, 0.5),
        "batch_size": Choice(32, 256),
    },
    base={
        "model.name": "mnist_cnn",
        "model.width": 16,
        "epochs": 16,
        "data.train_limit": 10000,
        "data.val_limit": 5000,
    },
)

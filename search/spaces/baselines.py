"""The traditional way: features made by hand and a classifier, to see what a network has to beat."""

from search.space import Choice, SearchSpace

SVM, KNN, TREE = ({"model.name": name} for name in ("svm", "knn", "tree"))


def space() -> SearchSpace:
    """Which features, which classifier, and each classifier's own settings: 60 configurations."""
    return SearchSpace(
        {
            "model.name": Choice("svm", "knn", "tree"),
            "model.features": Choice("hog", "lbp", "edges", "all"),
            "model.c": Choice(1.0, 10.0, 100.0, when=SVM),
            "model.gamma": Choice(0.3, 1.0, 3.0, when=SVM),
            "model.neighbours": Choice(1, 5, 15, when=KNN),
            "model.tree_depth": Choice(6, 12, 24, when=TREE),
        },
        trials=20,
    )

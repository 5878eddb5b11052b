"""The traditional approach: hand-made features and a classifier, as a baseline for networks."""

from search.space import Choice, SearchSpace

FOR = (
    "A first result in seconds, without networks: a classifier on hand-made features, which is "
    "often hard to beat."
)

SVM, KNN, TREE = ({"model.name": name} for name in ("svm", "knn", "tree"))


def space() -> SearchSpace:
    """Return the space of classifiers, their features and their settings; it has 96 points."""
    return SearchSpace(
        {
            "model.name": Choice("svm", "knn", "tree"),
            "model.features": Choice("hog", "lbp", "edges", "all"),
            "model.c": Choice(0.3, 1.0, 3.0, 10.0, when=SVM),
            "model.gamma": Choice(0.25, 0.5, 1.0, 2.0, when=SVM),
            "model.neighbours": Choice(1, 3, 5, 9, when=KNN),
            "model.tree_depth": Choice(6, 9, 12, 18, when=TREE),
        },
        trials=20,
        first=[{"model.name": name, "model.features": "hog"} for name in ("svm", "knn", "tree")],
    )

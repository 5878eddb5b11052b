"""The entry of classification: one class for each image. No torch is imported."""

from trainables.catalog.entries import UNIT, DatasetEntry, Metric, ModelEntry, TaskEntry
from trainables.catalog.networks import (
    HAND_MADE,
    NETWORKS,
    PROBED,
    probe,
    pseudo_labelled,
    spreading_probe,
)

MODELS: dict[str, ModelEntry] = {
    **NETWORKS,
    "svm": ModelEntry(
        builder="trainables.baselines.feature_classifiers:SupportVectorMachine",
        options={"features": "hog", "c": 10.0, "gamma": 1.0},
        min_side=8,
        kind="baseline",
        method=HAND_MADE,
    ),
    "knn": ModelEntry(
        builder="trainables.baselines.feature_classifiers:NearestNeighbours",
        options={"features": "hog", "neighbours": 5},
        min_side=8,
        kind="baseline",
        method=HAND_MADE,
        takes_class_weights=False,
    ),
    "tree": ModelEntry(
        builder="trainables.baselines.feature_classifiers:DecisionTree",
        options={"features": "hog", "tree_depth": 12},
        min_side=8,
        kind="baseline",
        method=HAND_MADE,
    ),
    **{f"probe_{name}": probe(NETWORKS[name]) for name in PROBED},
    **{f"spread_{name}": spreading_probe(NETWORKS[name]) for name in PROBED},
    **{f"pseudo_{name}": pseudo_labelled(NETWORKS[name]) for name in PROBED},
}

DATASETS: dict[str, DatasetEntry] = {
    "digits": DatasetEntry(
        description=(
            "1,797 handwritten digits, 8 x 8 pixels: already installed, and searched in a minute"
        ),
        module="trainables.datasets.published.digits",
        has_files=False,
    ),
    "mnist": DatasetEntry(
        description="70,000 handwritten digits, 28 x 28 pixels",
        module="trainables.datasets.published.mnist",
    ),
    "fashion_mnist": DatasetEntry(
        description="70,000 pieces of clothing, 28 x 28 pixels, grey",
        module="trainables.datasets.published.fashion_mnist",
        flip=True,
    ),
    "cifar10": DatasetEntry(
        description="60,000 small photographs in ten classes, 32 x 32 pixels",
        module="trainables.datasets.published.cifar10",
        flip=True,
    ),
    "joined": DatasetEntry(module="trainables.datasets.joined", flip=True, is_own=True),
}

ENTRY = TaskEntry(
    name="classification",
    title="classification",
    implementation="trainables.tasks.classification.training:Classification",
    predictor="trainables.tasks.classification.predictor",
    targets="trainables.tasks.classification.targets:ClassNumbers",
    model="trainables.tasks.classification.model:Classifier",
    goal="classify {data} ({classes} classes) best",
    output="probabilities",
    committee="probabilities are the mean of those of",
    columns="`class`, `probability`, and `probability of NAME` for each class",
    accepts=(
        "Pass images as one uint8 NumPy array of shape (count, height, width, channels), of "
        "any height and width, grey (1 channel) or RGB (3 channels); as a grey array of shape "
        "(count, height, width); or as a list of images, whose sizes may differ. Pass a single "
        "image as `image[None]`. The model converts images to grey or colour, and resizes and "
        "scales them; transparent pixels become white."
    ),
    baselines=(
        "The space baselines fits a support vector machine, nearest neighbours and a decision tree "
        "to hand-made features."
    ),
    metrics=(
        Metric(
            name="accuracy",
            title="accuracy",
            limits=UNIT,
            is_share=True,
            in_percent=True,
            is_primary=True,
        ),
        Metric(
            name="balanced_accuracy",
            title="balanced accuracy",
            limits=UNIT,
            in_percent=True,
        ),
        Metric(name="macro_f1", title="macro F1", limits=UNIT),
        Metric(
            name="log_loss",
            title="log loss",
            mode="min",
            is_skewed=True,
            limits=(0.0, float("inf")),
        ),
        Metric(name="auc", title="AUC", limits=UNIT),
        Metric(
            name="worst_group_accuracy",
            title="worst-group accuracy",
            limits=UNIT,
            is_lowest=True,
            in_percent=True,
        ),
    ),
    terms={
        "worst-group accuracy": (
            "The lowest share of images that are classified correctly, among the classes within "
            "the groups of --groups; without groups, among the classes."
        ),
    },
    can=frozenset(
        {
            *("augment", "average", "balance", "explain", "feedback", "folds", "fuse", "groups"),
            *("half", "onnx", "policy", "promises", "robustness", "sampling", "soft_labels"),
            "workers",
        }
    ),
    reader="trainables.tasks.classification.reading",
    folder="one sub-folder per class",
    is_implied=True,
    models=MODELS,
    datasets=DATASETS,
)

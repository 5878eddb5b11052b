"""Words of the field and of this project, each explained in a sentence, for reports and pages."""

from trainables.catalog.entries import TaskEntry

TERMS = {
    "trial": "One model with one set of settings, such as t0007.",
    "epoch": "One pass of the training over all training images.",
    "training, validation, test set": (
        "The images that a model learns from; those on which trials are compared; and those that "
        "are used once, at the end, because the best of many trials owes part of its value to luck."
    ),
    "95 % interval": (
        "The range in which the true value lies with 95 % confidence. The fewer images, the wider."
    ),
    "guessing": "Predicting classes without looking at images, such as always the largest one.",
    "asha, early stopping": (
        "Trials wait at certain epochs, the rungs, and only those that may still become the best "
        "continue, so that little time is spent on the others."
    ),
    "held": "Waiting at a rung. If the search has ended, a resume can continue the trial.",
    "stopped": "Ended at a rung, because other trials were more promising.",
    "probe": "A simple classifier on what a pretrained network sees in an image; fast to fit.",
    "baseline": "A model without training in epochs, with which networks are compared.",
    "pretrained": "A network that starts with what it has learned from other images.",
    "freeze": "The part of a pretrained network that is not trained any more.",
    "lr": "The learning rate: how far one step of the training changes the network.",
    "batch size": "The number of images of one step of the training.",
    "weight decay": "A pull of all weights towards zero, against learning the images by heart.",
    "dropout": "The share of a layer that is switched off at random, against learning by heart.",
    "crop, flip, jitter, rotation": (
        "Random changes of the training images: shifted by so many pixels, mirrored, brightness "
        "and colours changed, turned. A network then learns what does not depend on them."
    ),
    "bf16": "A number format of 16 bits, which makes training faster on some processors.",
    "Pareto front": (
        "The trials that no other one equals or beats in all objectives, such as quality and speed."
    ),
}
"""Maps words to their explanations, in the order in which they are shown."""
TERMS_OF_CLASSES = {
    "confusion matrix": "How often each true class (row) was predicted as each class (column).",
    "precision, recall": (
        "Of the images that were predicted to be of a class, the share that is; of the images of a "
        "class, the share that was predicted to be."
    ),
    "macro F1, balanced accuracy": "Metrics for which each class counts equally.",
    "reliability diagram": "Whether predictions with 80 % probability are right in 80 % of cases.",
}
"""Words that are used only where each image has a class."""


def terms_of(task: TaskEntry) -> dict[str, str]:
    """Return the words for a task, and those for all."""
    of_classes = TERMS_OF_CLASSES if task.load_targets().are_classes else {}
    return TERMS | of_classes | dict(task.terms)

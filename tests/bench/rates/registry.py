"""The features whose promises are measured, each with the module that has its cases."""

FEATURES: dict[str, str] = {
    "improve": "improve",
    "early-stopping": "early_stopping",
    "predict": "predicted",
    "intervals": "intervals",
    "intervals-of-masks": "intervals_of_masks",
    "intervals-of-boxes": "intervals_of_boxes",
    "guessing": "guessing",
    "compare": "compare",
    "select": "selection",
    "refine": "refine",
    "monitor": "monitor",
}
"""A feature, by the name that `--only` takes: its module in `tests.bench.rates`."""

"""The features whose promises are measured, each with the module that has its cases."""

FEATURES: dict[str, str] = {
    "monitor": "monitor",
}
"""A feature, by the name that `--only` takes: its module in `tests.bench.rates`."""

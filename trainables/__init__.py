"""Training of a single image classifier: config, data, models, training loop, checkpoints.

This package imports neither `search` nor `cluster`.
"""

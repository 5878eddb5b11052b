"""Training of one image classifier: config, data, models, loop, checkpoints.

Knows nothing of searches.
"""

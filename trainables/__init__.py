"""Trains one configuration of an image classifier: config, data, models, loop, checkpoints. Knows
nothing of searches.
"""

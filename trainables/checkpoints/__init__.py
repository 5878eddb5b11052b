"""Checkpoints: written completely, verified when read, in a folder or a bucket.

A training may start from another one's checkpoints (a warm start). May import the config, data sets
and the file format of baselines; never the training loop.
"""

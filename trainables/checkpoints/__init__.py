"""Checkpoints: written atomically, verified when read, and stored in a folder or a bucket.

A training may start from another one's checkpoints (a warm start). This package may import the
config, the data sets and the file format of baselines, but never the training loop.
"""

"""Checkpoints: written whole, verified when read, in a folder or a bucket, one training from
another's.

May import the config, data sets and the file format of baselines; never the training loop.
"""

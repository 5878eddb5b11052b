"""Augmentation: random changes of training images, and mixtures of pairs of images.

This package may import configs, but never data sets, tasks or the training loop.
"""

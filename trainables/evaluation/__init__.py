"""Measurements and estimates: quality and cost of checkpoints, time and memory of trainings.

This package may import the training loop, which computes a network's outputs, but never Ray.
"""

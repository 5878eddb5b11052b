"""Answers that can be relied on: when a classifier abstains, and which classes are possible.

It imports tasks, training and evaluation, and is imported by the export of a model.
"""

"""The parts that depend on what is learned: losses, metrics, the mistakes that people are shown.

May import data sets' arrays; never models or the training loop.
"""

"""Provide the machines: Ray sessions and their resources.

This package knows nothing of searches or trainings.
"""

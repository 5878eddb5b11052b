"""Statistics that several packages need: confidence bounds.

This package imports nothing of this project.
"""

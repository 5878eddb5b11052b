"""Checks before a machine starts: data, disk, memory and versions, and changes before a resume.

This package may import `search.decisions`, `search.tracking` and the packages below these, but
never starts Ray.
"""

"""Checks before a machine starts: data, disk, memory, versions, and before a resume, changes.

This package may import `search.decisions`, `search.tracking` and the packages below these, but
never starts Ray.
"""

"""Checks before a machine starts: data, disk, memory, versions, and the changes before a resume.

This package may import `search.design`, `search.process`, `search.journal` and
`trainables.catalog`; it never starts Ray.
"""

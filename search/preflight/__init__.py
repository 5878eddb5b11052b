"""Checks before a machine starts: data, disk, memory, versions, what a resume may change.

May import `design`, `process`, the journal and the catalog; never starts Ray.
"""

"""The journal of a search: its events, the result computed from them, its storage and its lease.

The journal is the source of truth: everything else is computed from it. This package may import
`search.values`, buckets and checkpoints, but never the packages that decide, run or display.
"""

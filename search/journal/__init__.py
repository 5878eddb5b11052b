"""The log of a search: its events, their summary, the place it is kept in and its lock.

It is the source of truth; all else is computed from it. May import `values`, buckets and
checkpoints; never what decides, runs or shows.
"""

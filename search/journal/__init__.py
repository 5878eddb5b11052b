"""The log of a search: its events, what they add up to, where it is kept and who may write it.

The source of truth; all else is computed from it. May import `objectives`, buckets and checkpoints;
never what decides, runs or shows.
"""

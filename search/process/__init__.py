"""The process of a verb: its guard, lifetime and versions, and the liveness of drivers.

May import `values` and the journal.
"""

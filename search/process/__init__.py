"""The process of a verb: its guard, lifetime and versions.

May import `values` and the journal.
"""

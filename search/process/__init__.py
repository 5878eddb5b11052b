"""The process of a verb: its errors as lines and exit codes, signals, lifetime and versions.

May import `values` and the journal.
"""

"""The model of a search: which trial it is, its folder, and where it is found.

May import `views` for its wording, the journal, `tracking` and what exports a checkpoint; never
what decides or runs, a verb or the command line.
"""

"""Sessions: one run of a search's driver from beginning to end, and the estimate of one.

May import every room below the verbs; never a verb, the pages or the command line.
"""

"""The command line's own parts: options that verbs share, the config file, questions.

May import `values`, the journal, answers to requests, and what options are turned into: the changes
of a recorded search, the source of a model. Never what trains or shows.
"""

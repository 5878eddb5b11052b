"""The command line's own parts: options that verbs share, the config file, questions.

May import `values`, `design`, the journal and tracking's addresses; never what decides, trains or
shows.
"""

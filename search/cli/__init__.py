"""The command line's own parts: options that verbs share, the config file, secrets, exit codes.

May import the search from outside (`experiment`, `budget`), the journal and tracking's addresses;
never what decides, trains or shows.
"""

"""The named search spaces, one a file, each with `space()`.

`find` looks one up by name, or loads a user's own.
"""

"""The named search spaces, one a file, each with `space()`, and `FOR`: what it is for.

`find` looks one up by name, or loads a user's own.
"""

"""The named search spaces, one per module, with `space()` and a line on its purpose, `FOR`.

`find` looks up a space by name, or loads a user's own.
"""

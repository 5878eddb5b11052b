"""The named search spaces, one per module.

Each module has a function `space()`, and `FOR`, a text on the purpose of the space. A space for
another task than classification also names it in `TASK`. `find` looks up a space by name, or loads
a user's own.
"""

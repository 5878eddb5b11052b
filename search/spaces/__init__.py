"""The named search spaces, one per module.

Each module has a function `space()`, and `FOR`, a text on the purpose of the space. `find` looks up
a space by name, or loads a user's own.
"""

"""The named search spaces, one per module.

Each module has a function `space()`, and `FOR`, a text on the purpose of the space. A space for
another task than classification also names it in `TASK`. `DEFAULT_FOR` has the tasks and the data
sets for which the space is used if the user names none. A space that depends on the data, the
weights and the time (`circumstances`) also has `space_for`. `find` looks up a space by name, or
loads a user's own.
"""

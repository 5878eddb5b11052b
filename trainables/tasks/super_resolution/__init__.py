"""Super-resolution: images enlarged 2, 3 or 4 times.

`entry` describes the task without torch; docs/structure.md lists the files of a task.
"""

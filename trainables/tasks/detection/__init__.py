"""Detection: boxes around the objects of an image.

`entry` describes the task without torch; docs/structure.md lists the files of a task.
"""

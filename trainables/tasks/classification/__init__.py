"""Classification: one class for each image.

`entry` describes the task without torch; docs/structure.md lists the files of a task.
"""

"""Detection: boxes around the objects of an image.

`entry` describes the task without torch; `trainables.tasks.base` lists the files of a task.
"""

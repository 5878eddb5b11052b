"""Classification: one class for each image.

`entry` describes the task without torch; `trainables.tasks.base` lists the files of a task.
"""

"""Segmentation: the class of each pixel.

`entry` describes the task without torch; `trainables.tasks.base` lists the files of a task.
"""

"""Segmentation: the class of each pixel.

`entry` describes the task without torch; docs/structure.md lists the files of a task.
"""

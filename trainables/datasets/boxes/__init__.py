"""Boxes around the objects in images: the data of detection.

`values` has the form of boxes, `layout` finds the files of a user's folder, `coco`, `voc` and
`yolo` read their annotations, `folder` decodes the images, and `targets` checks what was read.
These modules may import the config and the modules of `trainables.datasets`.
"""

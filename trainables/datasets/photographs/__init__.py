"""Photographs and their reduced copies, which are enlarged again: the data of super-resolution.

`reducing` makes the small copies, `quality` compares images, `layout` finds the files of a user's
folder, `folder` reads them, and `targets` checks what was read. These modules may import the
config, the modules of `trainables.datasets` and the sizes of crops in `trainables.datasets.masks`.
"""

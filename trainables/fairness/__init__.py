"""Results by groups of images: the attributes of images, and metrics of their groups.

It imports no torch, and nothing of the data sets, whose images the attributes describe.
"""

"""Images with masks, which give each pixel its class: the data of segmentation.

`pairs` finds the mask of each image, `coco` and `tables` read annotations and colours, `decoding`
reads mask files, `folder` is the reader of a user's folder, and `targets` checks what was read.
These modules may import the config, and the modules of `trainables.datasets`.
"""

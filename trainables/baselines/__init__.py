"""Traditional models, as baselines for the networks.

`base` has their interface. For classification, `features` computes hand-crafted features, to which
a classifier (`classifiers`) is fitted once; for segmentation, `pixel_models` has a threshold and
random forests on features of pixels.
"""

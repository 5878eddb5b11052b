"""Traditional models, as baselines for the networks.

`base` has their interface. `features` computes hand-crafted features of images, to which a
classifier (`classifiers`) is fitted once. A task has further baselines of its own in its folder.
"""

"""The networks: one family in each file, all listed in `trainables.catalog.models.MODELS`.

Their docstrings refer to "the paper", which is Nimma and Uddagiri, "Advancements in Deep Learning
Architectures for Image Recognition and Semantic Segmentation".
"""

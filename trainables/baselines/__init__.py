"""Traditional classifiers, as baselines for the networks.

`features` computes hand-crafted features, to which a classifier (`classifiers`) is fitted once.
"""

"""Labels of a data set that are probably wrong, before anything trains.

`doubts` estimates the share of wrong labels and each label's probability of being wrong, from
features; `ranking` computes the features of a data set, ranks its images, and puts the result into
plain values. This package may import the data sets, their inspection, the baselines and the probes,
whose features it uses, but no training, and of libraries only numpy and scipy.
"""

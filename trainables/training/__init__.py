"""The training of one network: the loop, augmentation, optimizers, precision, processes.

May import models, tasks and data sets, and of the checkpoints only the remembered outputs; no Ray,
and it opens no files.
"""

"""The training of one network: the loop, augmentation, optimizers, precision, processes.

May import models, tasks and data sets; no Ray, and no file but checkpoints' remembered outputs.
"""

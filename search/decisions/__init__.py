"""What a search decides: who trains next, who stops, what is chosen, in which space it goes on.

The driver and its policies. May import algorithms, schedulers, the journal and `experiment`; never
Ray, MLflow, torch, nor anything that runs a training or shows one.
"""

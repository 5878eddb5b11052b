"""Several networks trained as one: how their layers are stacked, in company of which, and whether
it pays.

May import the training loop and the models; the loop knows nothing of it.
"""

"""Images that are stored elsewhere: copied to this machine before they are read.

This room may import `cluster.storage` and `trainables`, and nothing of `search`.
"""

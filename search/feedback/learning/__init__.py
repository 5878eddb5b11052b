"""Learning from corrected images: which join the training set, and whether a challenger is better.

May import all that `feedback` may, its records, how `monitoring` draws a sample of them, `trained`
and the changes to a recorded search; never what records or labels.
"""
